"""How projections and event handlers are declared."""

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, overload

from headwater.errors import DeclarationError
from headwater.messages import Event, Textual
from headwater.messages.keys import KeyOf
from headwater.modelling.event_message import EventMessage
from headwater.modelling.foreign import FollowedSource
from headwater.modelling.handler_tables import check_declaration
from headwater.modelling.marks import MARK, Marks
from headwater.modelling.policies import Retry, Start
from headwater.views import ReadModel, Sql, SqlTable, View, ViewPage, Where

F = TypeVar("F", bound=Callable[..., Awaitable[None]])
S = TypeVar("S")
E = TypeVar("E", bound=Event)
V = TypeVar("V", bound=View)


class ViewReader(Protocol):
    """The reading half of a view store, for query handlers; see `ViewStore` for the contract."""

    async def get(self, view: type[V], key: Textual) -> V | None:
        """Return one document."""

    async def get_many(self, view: type[V], keys: Sequence[Textual]) -> dict[str, V]:
        """Return those of the keys that exist."""

    async def find(
        self,
        view: type[V],
        *,
        where: Where | None = None,
        matching: str = "",
        order_by: str = "",
        descending: bool = False,
        limit: int = 100,
        cursor: str = "",
        include_total: bool = False,
    ) -> ViewPage:
        """Find documents by index, and by their words."""

    async def count(
        self, view: type[View], *, where: Where | None = None, matching: str = ""
    ) -> int:
        """Return how many documents match."""

    def sql(self, *tables: type[SqlTable]) -> AbstractAsyncContextManager[Sql]:
        """Begin to read own tables with SQL; all of the block sees the same committed state."""


class KeyedDecorator(Protocol, Generic[V]):
    """What ``event_handler(SomeView, key=...)`` returns: it takes one of these methods."""

    @overload
    def __call__(self, method: Callable[[S, V, E], None], /) -> Callable[[S, V, E], None]: ...
    @overload
    def __call__(
        self, method: Callable[[S, V, E, EventMessage[E]], None], /
    ) -> Callable[[S, V, E, EventMessage[E]], None]: ...
    @overload
    def __call__(self, method: Callable[[S, E], V], /) -> Callable[[S, E], V]: ...
    @overload
    def __call__(
        self, method: Callable[[S, E, EventMessage[E]], V], /
    ) -> Callable[[S, E, EventMessage[E]], V]: ...
    @overload
    def __call__(self, method: Callable[[S, E], list[V]], /) -> Callable[[S, E], list[V]]: ...
    @overload
    def __call__(
        self, method: Callable[[S, E, EventMessage[E]], list[V]], /
    ) -> Callable[[S, E, EventMessage[E]], list[V]]: ...


class DeletingDecorator(Protocol):
    """What ``event_handler(SomeView, key=..., deletes=True)`` returns."""

    @overload
    def __call__(self, method: Callable[[S, E], None], /) -> Callable[[S, E], None]: ...
    @overload
    def __call__(
        self, method: Callable[[S, E, EventMessage[E]], None], /
    ) -> Callable[[S, E, EventMessage[E]], None]: ...


@overload
def event_handler(view: F, /) -> F: ...
@overload
def event_handler(*, replay: bool) -> Callable[[F], F]: ...
@overload
def event_handler(
    view: type[V], /, *, key: str | KeyOf, deletes: Literal[False] = False
) -> KeyedDecorator[V]: ...
@overload
def event_handler(
    view: type[View], /, *, key: str | KeyOf, deletes: Literal[True]
) -> DeletingDecorator: ...
def event_handler(
    view: Any = None, /, *, key: str | KeyOf = "", deletes: bool = False, replay: bool = True
) -> Any:
    """Mark a method as the handler of the event type that its parameter is annotated with.

    Keyed, ``@event_handler(SomeView, key=...)``: the framework loads the views of a whole batch
    at once and saves them at once. The method is not async and is one of::

        def changed(self, view: SomeView, event: Changed) -> None       # changes the view
        def made(self, event: Made) -> SomeView                         # returns it: insert/replace
        def gone(self, event: Gone) -> None                             # with deletes=True

    A key is any value with a canonical text (see `Tag`); None: the event is for no such view.
    A list, tuple or set of keys means several views, each once: ``changed`` is called for each,
    ``gone`` once, and ``made`` once, declared ``-> list[SomeView]``, to return one for each key.

    A view that does not exist is started when all its fields but the key have defaults; else the
    event fails with `ViewNotFound`. Free-form, ``@event_handler`` alone: an async method that may
    take ``transaction: ViewTransaction``. Both may take ``message: EventMessage[...]``.

    Effects and progress commit together, so the effect of an event is there exactly once, and
    the events of one stream are handled in their order. A handler that raises is tried again (see
    `Retry`) while other streams go on; then its stream is parked.

    What is handled once more, because the processor was made on a log with a history or was sent
    back, is told by ``message.replaying``; a free-form ``@event_handler(replay=False)`` does not
    see it.

    Args:
        view: the view type (or the method, when used without parentheses).
        key: the field of the event that names its view or views, or a function of the event.
        deletes: the event removes the view.
        replay: whether a free-form handler is called in a replay, too.

    Raises:
        DeclarationError: ``view`` is no view type, or the key is missing.
    """
    if view is None:
        return lambda method: _marked(method, Marks(replay=replay))
    if not isinstance(view, type):
        return _marked(view, Marks())
    if not issubclass(view, View) or view is View:
        raise DeclarationError(
            subject=f"@event_handler({view.__name__})",
            reason="the first argument must be a View class: class AccountView(View)",
        )
    if not key:
        raise DeclarationError(
            subject=f"@event_handler({view.__name__})",
            reason='say which view an event belongs to: key="account_id"',
        )

    return lambda method: _marked(method, Marks(view, key, deletes))


def _marked(method: Any, marks: Marks) -> Any:
    setattr(method, MARK, (*getattr(method, MARK, ()), marks))
    return method


def kebab(name: str) -> str:
    """Return a class name in kebab case: ``TopCustomers`` → ``top-customers``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


class EventHandlers:
    """Event handlers that keep no views: free-form methods with the guarantees of a processor.

    A free-form handler that takes a ``ViewTransaction`` runs inside the transaction that moves
    the token: its effect on views is there exactly once, and everybody waits for it, so it must be
    quick. One that takes none runs before the transaction and may take its time: only its own
    segment waits. It is called at least once: again after a crash, or when its segment changed
    hands meanwhile.

    Class options: ``name`` (default: the class name in kebab case), ``segments`` (into how many
    shares the work is divided when the processor is first started; later: `ProcessorAdmin.resize`),
    ``source`` (what it follows: the service's own store, the event bus, or a queue of another
    broker such as `AmqpQueue`), ``retry`` (how often
    an event that fails is tried, if not as the settings say), ``start`` (where it begins when it
    is first started: ``"beginning"``, ``"now"``, or a time; to be said where there is a history),
    ``timeout_s`` (how long a free-form handler may take; None: as long as it likes. Then it counts
    as waiting for something that is away: it is cancelled, and tried again).
    """

    name: ClassVar[str] = ""
    segments: ClassVar[int] = 4
    source: ClassVar[FollowedSource] = "store"
    retry: ClassVar[Retry | None] = None
    start: ClassVar[Start] = ""
    timeout_s: ClassVar[float | None] = None
    keeps_views: ClassVar[bool] = False
    view_types: ClassVar[tuple[ReadModel, ...]] = ()
    version: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check the declaration.

        Raises:
            DeclarationError: an option or a handler is declared wrongly.
        """
        super().__init_subclass__(**kwargs)
        if not cls.__dict__.get("name"):
            cls.name = kebab(cls.__name__)
        check_declaration(cls)


class Projection(EventHandlers):
    """Event handlers that keep views, and query handlers that read them.

    ``views`` is set before the first query or event; it reads the active generation. The class
    option ``view_types`` names views that only free-form handlers touch, and own tables (see
    `SqlTable`); the views of keyed handlers are known.

    Programs that make other views of the same events have generations of their own, so that each
    finds what it expects. Which programs those are is read from the sources of handlers, views and
    events, and of what they call. With the class option ``version`` it is said instead: raise it
    with each change that makes other views. (Fields, key and indexes of views count anyway.)
    """

    keeps_views: ClassVar[bool] = True
    views: ViewReader
