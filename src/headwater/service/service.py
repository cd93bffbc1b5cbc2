"""`Service`: the composition root. It declares what a service consists of; nothing runs yet."""

import contextlib
import copy
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any, TypeVar, overload

from headwater.bridges import Publishing
from headwater.client import Credentials
from headwater.config import Settings
from headwater.dispatch import (
    CommandInterceptor,
    QueryBus,
    QueryInterceptor,
)
from headwater.dispatch.interceptors import Authorize
from headwater.errors import ConfigurationError, DeclarationError
from headwater.messages import Codec, Command
from headwater.messages.codec import EventCodec
from headwater.modelling import Aggregate, DecisionModel
from headwater.modelling.handler_tables import handler_table
from headwater.modelling.saga import saga_type
from headwater.processing.scheduling import Recurring, Schedule
from headwater.processing.scheduling.recurring import Missed
from headwater.service.authentication import Authenticate
from headwater.service.declaration import Declaration
from headwater.service.deferred import DeferredSettings, RunningInstance, deferred_client
from headwater.service.later import ServiceCommands
from headwater.service.names import check_names

T = TypeVar("T")
Tick = TypeVar("Tick", bound=Callable[[datetime], Command])
Task = TypeVar("Task", bound=Callable[[], Awaitable[None]])


class Service(Declaration):
    """A service, declared at import and run by ``headwater run module:service``.

    Args:
        name: its name in the system.
        aggregates: whose commands it handles.
        decisions: decision models that handle commands by themselves.
        projections: classes (or instances) that build and answer from views. Of a class each
            running instance of the service makes its own; a second running instance in the same
            process gets a copy of an object.
        sagas: durable state machines that it runs.
        handlers: `EventHandlers` classes (or instances) with effects of their own.
        publishers: where its events go besides the event bus, such as `AmqpPublisher`.
        interceptors: around every command handled here, outermost first.
        query_interceptors: around every query answered here, outermost first.
        authenticate: asked who makes a request, for every message and route; raises to refuse.
        authorize: asked before every command and query, with who asks; raises to refuse.
        credentials: asked for what goes along with every call to another service.
        routes: further Litestar route handlers (SSE, WebSockets, plain REST).
        scheduling: whether commands can be sent later (see `commands` and `every`).
        version: the program's version, shown in discovery and OpenAPI.

    Raises:
        DeclarationError: something in it is declared wrongly, or two have the same name.
    """

    def __init__(
        self,
        name: str,
        *,
        aggregates: Sequence[type[Aggregate]] = (),
        decisions: Sequence[type[DecisionModel]] = (),
        projections: Sequence[Any] = (),
        sagas: Sequence[type[Any]] = (),
        handlers: Sequence[Any] = (),
        publishers: Sequence[Publishing] = (),
        interceptors: Sequence[CommandInterceptor] = (),
        query_interceptors: Sequence[QueryInterceptor] = (),
        authenticate: Authenticate | None = None,
        authorize: Authorize | None = None,
        credentials: Credentials | None = None,
        routes: Iterable[Any] = (),
        scheduling: bool = False,
        version: str = "",
        codec: Codec | None = None,
    ) -> None:
        if not name or not all(c.isalnum() or c in "-_" for c in name):
            raise DeclarationError(
                subject=f"Service({name!r})", reason="a name has letters, digits, - and _"
            )
        super().__init__(
            name,
            aggregates=aggregates,
            decisions=decisions,
            projections=projections,
            sagas=sagas,
            handlers=handlers,
            publishers=publishers,
            routes=tuple(routes),
            scheduling=scheduling,
        )
        self.version = version
        self.interceptors: tuple[CommandInterceptor, ...] = tuple(interceptors)
        self.query_interceptors: tuple[QueryInterceptor, ...] = tuple(query_interceptors)
        self.authenticate = authenticate
        self.authorize = authorize
        self.credentials = credentials
        self.codec = codec
        check_names(self)
        _check_events(self)
        self.sections: list[DeferredSettings[Any]] = []
        self._running: list[RunningInstance] = []
        self._current: ContextVar[RunningInstance | None] = ContextVar(
            "headwater_runtime", default=None
        )
        self._lent: set[int] = set()

    @contextlib.contextmanager
    def lend(self) -> Iterator[tuple[Any, ...]]:
        """Give one running instance projections and handlers that no other one uses meanwhile."""
        mine = []
        for given, one in zip(self.given, (*self.projections, *self.handlers), strict=True):
            own = one
            if id(one) in self._lent:
                own = given() if isinstance(given, type) else copy.copy(given)
            mine.append(own)
        ids = {id(own) for own in mine}
        self._lent |= ids
        try:
            yield tuple(mine)
        finally:
            self._lent -= ids

    @contextlib.contextmanager
    def within(self, runtime: RunningInstance) -> Iterator[None]:
        """Let the block, and the tasks that it starts, belong to one of the running instances."""
        before = self._current.set(runtime)
        try:
            yield
        finally:
            self._current.reset(before)

    @contextlib.contextmanager
    def running(self, runtime: RunningInstance) -> Iterator[None]:
        """Let handlers and clients of the service work through an instance."""
        self._running.append(runtime)
        try:
            yield
        finally:
            self._running.remove(runtime)

    @property
    def alone(self) -> bool:
        """Whether at most one instance runs in this process, so that all belongs to it."""
        return len(self._running) < 2

    @property
    def runtime(self) -> RunningInstance:
        """The running instance of this service in this process.

        Of several, the one whose handler or request this is; outside of them the latest.

        Raises:
            ConfigurationError: it is not running.
        """
        runtime = self._current.get()
        if runtime is None or runtime not in self._running:
            runtime = self._running[-1] if self._running else None
        if runtime is None:
            raise ConfigurationError(
                subject=f"service {self.name!r}",
                reason="is not running in this process: use it from handlers, or start it first",
            )
        return runtime

    @property
    def commands(self) -> ServiceCommands:
        """The command bus of the running instance: local handlers first, else the network.

        With ``at`` or ``after`` commands are sent later.
        """
        return self.runtime.commands

    @property
    def schedule(self) -> Schedule:
        """What is to be sent later: ``list()`` and ``cancel(id)``.

        Raises:
            ConfigurationError: it is not running, or does not say that it sends later.
        """
        return self.runtime.commands.schedule

    @property
    def queries(self) -> QueryBus:
        """The query bus of the running instance: local handlers first, else the network."""
        return self.runtime.queries

    def every(
        self, cron: str, *, zone: str, name: str = "", missed: Missed = "latest"
    ) -> Callable[[Tick], Tick]:
        """Declare a command that is sent at each tick of a cron expression, once over all.

        Decorates a function that makes the command of a tick, given with its time zone. It is
        pure, as it may be called again::

            @service.every("0 6 * * *", zone="Europe/Berlin")
            def close_books(tick: datetime) -> CloseBooks:
                return CloseBooks(day=tick.date())

        Args:
            cron: minute, hour, day of month, month, day of week.
            zone: by which clock, as ``Europe/Berlin``. Where clocks are set forward, a time that
                is left out comes right after it; where they are set back, one that comes twice
                counts once.
            name: tells it apart; with the tick it is the idempotency key. Empty: the function's.
            missed: of ticks that nobody was there for, ``latest`` sends the last one as soon as
                somebody is, and ``skip`` none.

        Raises:
            DeclarationError: it is declared wrongly, or there is one of this name.
        """

        def declare(function: Tick) -> Tick:
            recurring = Recurring(
                cron, function, name=name or _name_of(function), zone=zone, missed=missed
            )
            _declare_once(self.recurring, recurring.name, recurring, "every()")
            self.scheduling = True
            return function

        return declare

    @overload
    def background(self, function: Task) -> Task: ...
    @overload
    def background(self, *, name: str) -> Callable[[Task], Task]: ...
    def background(
        self, function: Task | None = None, *, name: str = ""
    ) -> Task | Callable[[Task], Task]:
        """Declare a task: an async function that runs in one instance at a time, over all.

        It is started where the claim is, and cancelled when the instance stops or loses its claim;
        then it runs elsewhere. After an error it is started again, with back-off. One that returns
        is done for as long as its instance holds the claim.

        Args:
            function: ``async def task() -> None``.
            name: tells it apart; empty: the function's.

        Raises:
            DeclarationError: it is no async function, or there is one of this name.
        """

        def declare(function: Task) -> Task:
            called = name or _name_of(function)
            is_async: bool = inspect.iscoroutinefunction(function)
            if not is_async:
                raise DeclarationError(subject=called, reason="a task is an async function")
            _declare_once(self.tasks, called, function, "background()")
            return function

        return declare if function is None else declare(function)

    def client(self, contract: Callable[..., T]) -> T:
        """Return the client of a declared REST interface (see `headwater.client`).

        It may be made at import; it can be called while the service runs.
        """
        return deferred_client(lambda: self.runtime, contract)

    def settings(self, kind: type[T], *, prefix: str = "") -> Settings[T]:
        """Return a live, typed section of the configuration (default: the service's name).

        It may be declared at import; ``.current`` can be read while the service runs. A service
        does not start with a section that does not fit the type, and keeps the last good value
        when a later one does not.
        """
        declared = DeferredSettings(lambda: self.runtime, kind, prefix or self.name)
        self.sections.append(declared)
        return declared


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", ""))


def _declare_once(known: dict[str, Any], name: str, what: Any, where: str) -> None:
    if not name or not all(c.isalnum() or c in "-_" for c in name):
        raise DeclarationError(
            subject=f"{where} {name!r}", reason='a name has letters, digits, - and _: name="..."'
        )
    if name in known:
        raise DeclarationError(
            subject=f"{where} {name!r}", reason='is declared twice: give one another name="..."'
        )
    known[name] = what


def _check_events(service: Service) -> None:
    """Check that what a service handles can be read, whatever an instance's role.

    Raises:
        DeclarationError: an upcaster is missing.
    """
    tables = [handler_table(type(one)) for one in (*service.projections, *service.handlers)]
    sagas: Sequence[Any] = service.sagas
    for events in (*(table.events for table in tables), *(saga_type(s).events for s in sagas)):
        for event in events:
            EventCodec([event])
