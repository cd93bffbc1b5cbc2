"""``async with running(service) as app``: services under test, in this process.

::

    async with running(service) as app:
        await app.send(OpenAccount("7", "Eve"))
        assert await app.query(GetAccount("7")) == AccountView("7", "Eve")

These are instances as they run in production, on engines in memory: commands pass their
interceptors, events become views, sagas send commands, and one service reaches another over HTTP.
"""

import contextlib
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from headwater.discovery import LocalDiscovery
from headwater.dispatch import CommandResult
from headwater.errors import ConfigurationError, EventUnreadable
from headwater.eventstore import StoredEvent
from headwater.messages import Command, ConsistencyToken, Event, Query
from headwater.messages.codec import EventCodec
from headwater.messages.headers import CONSISTENCY_TOKEN
from headwater.messages.sealing import opened_event
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.testing.settling import Settling
from headwater.testing.surroundings import Clock, SharedBus, TestSurroundings, check_clients

if TYPE_CHECKING:
    import httpx

E = TypeVar("E", bound=Event)
R = TypeVar("R")

_SETTLE_S = 30.0
_EXACT_S = 1e-6  # to which a float of today's seconds is exact
_TRIES_MAX = 100  # of what is away, in one `after`; then time jumps
_DEFAULTS: dict[str, Any] = {
    "store": "memory:",
    "views": "memory:",
    "bus": "memory:",
    "retry_attempts": 1,
}


class Running:
    """Services that run in this process; made by `running`.

    Attributes:
        clock: the time of all of them.
        http: a client of their HTTP edges without a socket: a path alone asks the first service,
            ``http://<name>/...`` any of them. WebSockets and event streams need ``url``.
        runtimes: the running instances, in the order of the services.
    """

    def __init__(
        self, runtimes: Sequence[Runtime], clock: Clock, http: "httpx.AsyncClient"
    ) -> None:
        """Use `running`."""
        self.runtimes: tuple[Runtime, ...] = tuple(runtimes)
        self.clock = clock
        self.http = http
        self._settling = Settling(self.runtimes)
        self._token = ConsistencyToken({})

    @property
    def url(self) -> str:
        """Where the first service listens on this machine."""
        return self.runtimes[0].url

    async def send(
        self, command: Command, *, idempotency_key: str = "", expected_version: int | None = None
    ) -> CommandResult:
        """Send a command to the service that handles it; what `query` answers has seen it.

        Raises:
            Rejection: the domain refused; and what else `CommandBus.send` raises.
        """
        found = [r for r in self.runtimes if r.local_commands.handles(type(command))]
        bus = (found or self.runtimes)[0].commands
        result = await bus.send(
            command, idempotency_key=idempotency_key, expected_version=expected_version
        )
        self._saw(result.token)
        return result

    async def query(self, query: Query[R], *, token: ConsistencyToken | str | None = None) -> R:
        """Ask the service that answers; it has seen all commands that were sent through this.

        What sagas and handlers do thereupon takes its time: see `settled`.

        Args:
            query: what to ask.
            token: what the answer must have seen instead; empty: nothing.

        Raises:
            NotFound: what was asked for does not exist; and what else `QueryBus.ask` raises.
        """
        found = [r for r in self.runtimes if r.local_queries.handles(type(query))]
        bus = (found or self.runtimes)[0].queries
        return await bus.ask(query, token=self._token if token is None else token)

    async def settled(self, *, timeout_s: float = _SETTLE_S) -> None:
        """Return when projections, handlers and sagas have done all there is to do.

        What waits for its time, as a deadline or the next try of something that is away, goes on
        waiting: see `after`.

        Raises:
            Unsettled: an event, a command of a saga or a deadline is parked (told once for each,
                with the traceback), a saga's command cannot be sent, or it went on for more than
                ``timeout_s`` seconds.
        """
        await self._settling.settled(timeout_s=timeout_s)

    async def after(self, duration: timedelta) -> None:
        """Let time pass: what is due by then happens, each at its time, and all is settled.

        Raises:
            Unsettled: as `settled` does.
            ConfigurationError: as `Clock.advance` does.
        """
        until = self.clock.now + duration
        tries = 0
        await self.settled()
        while True:
            due_s = await self._settling.due_s()
            left_s = (until - self.clock.now).total_seconds()
            if due_s > left_s + _EXACT_S or tries > _TRIES_MAX:
                break
            await self._advance(timedelta(microseconds=math.ceil(max(0.0, due_s) * 1e6) or 1))
            tries += 1
        await self._advance(max(timedelta(), until - self.clock.now))

    async def _advance(self, duration: timedelta) -> None:
        self.clock.advance(duration)
        self._settling.wake()
        await self.settled()

    @overload
    async def events(self) -> list[Event]: ...
    @overload
    async def events(self, kind: type[E]) -> list[E]: ...
    async def events(self, kind: type[Any] = Event) -> list[Any]:
        """Return the events that were stored, oldest first: all, or those of one class.

        Those of one service are in their order; of several, by time.

        Raises:
            EventUnreadable: one does not fit its class, or its class is not known.
        """
        stored: list[tuple[StoredEvent, Event]] = []
        for runtime in self.runtimes:
            for shard in runtime.store.shards if runtime.store is not None else ():
                async for page in shard.read():
                    stored += [(raw, _decoded(runtime, raw)) for raw in page.events]
        stored.sort(key=lambda one: one[0].time)
        return [event for _, event in stored if isinstance(event, kind)]

    def runtime(self, service: Service) -> Runtime:
        """Return the running instance of one of the services.

        Raises:
            ConfigurationError: it is none of them.
        """
        for runtime in self.runtimes:
            if runtime.service is service:
                return runtime
        names = ", ".join(runtime.service.name for runtime in self.runtimes)
        raise ConfigurationError(
            subject=f"service {service.name!r}", reason=f"does not run here, but {names}"
        )

    def _saw(self, token: str) -> None:
        if token:
            self._token = self._token.merge(ConsistencyToken.decode(token))

    async def _ask_as_seen(self, request: "httpx.Request") -> None:
        if self._token.sources and CONSISTENCY_TOKEN not in request.headers:
            request.headers[CONSISTENCY_TOKEN] = self._token.encode()

    async def _note_seen(self, response: "httpx.Response") -> None:
        self._saw(response.headers.get(CONSISTENCY_TOKEN, ""))


@contextlib.asynccontextmanager
async def running(
    *services: Service,
    clients: Mapping[Any, object] | None = None,
    config: Mapping[str, Any] | None = None,
    now: datetime | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    """Run services in this process while the block lasts.

    A block that ends well ends with `Running.settled`, so that nothing that failed on the side
    goes unnoticed.

    Args:
        *services: whose commands, events and calls reach each other.
        clients: by declared interface (see `Service.client`), an object that answers in place of
            the other service.
        config: sections of the configuration, by name.
        now: where the clock begins, with a zone; None: at the machine's time.
        **settings: of all instances, see `ServiceSettings`; engines are in memory and an event is
            tried once, unless these say otherwise. The clock can only be moved where store and
            views are in memory.

    Raises:
        DeclarationError: a fake lacks a method of what it stands for.
        ConfigurationError: no service is given, or two of one name; a setting is wrong.
        HeadwaterError: a service does not start; see `Runtime.start`.
        Unsettled: something failed on the side.
    """
    names = [service.name for service in services]
    if not names or len(set(names)) < len(names):
        raise ConfigurationError(
            subject=f"running({', '.join(names)})", reason="needs services, each of its own name"
        )
    check_clients(clients or {})
    clock, discovery = Clock(now), LocalDiscovery()
    given = _DEFAULTS | settings
    bus = SharedBus(partitions=int(given.get("partitions", 4)))
    async with contextlib.AsyncExitStack() as stack:
        runtimes: list[Runtime] = []
        for service in services:
            surroundings = TestSurroundings(
                clock=clock,
                discovery=discovery,
                bus=bus,
                clients=clients or {},
                config=config or {},
            )
            runtime = Runtime(service, given, surroundings=surroundings)
            runtimes.append(await stack.enter_async_context(runtime))
        app = Running(runtimes, clock, http=_http(runtimes))
        app.http.event_hooks = {"request": [app._ask_as_seen], "response": [app._note_seen]}  # noqa: SLF001
        await stack.enter_async_context(app.http)
        yield app
        await app.settled()


def _http(runtimes: Sequence[Runtime]) -> "httpx.AsyncClient":
    import httpx

    edges = {runtime.service.name: httpx.ASGITransport(app=runtime.edge) for runtime in runtimes}
    first = runtimes[0].service.name
    return httpx.AsyncClient(
        base_url=f"http://{first}",
        transport=edges[first],
        mounts={f"all://{name}": edge for name, edge in edges.items()},
        trust_env=False,
    )


def _decoded(runtime: Runtime, raw: StoredEvent) -> Event:
    cls = runtime.event_names.class_of(raw.type)
    if cls is None:
        raise EventUnreadable(type=raw.type, reason="no class of the service has this name")
    return EventCodec([cls]).read(opened_event(runtime.service.codec, raw))


__all__ = ["Running", "running"]
