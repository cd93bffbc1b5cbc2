"""What opens the event stores of a URL scheme."""

from collections.abc import Awaitable, Callable

from headwater.engines import Engine
from headwater.eventstore.api import EventStore, ReadableLog


class EventStoreEngine(Engine, frozen=True, kw_only=True):
    """An engine of event stores: registered in the group ``headwater.eventstores``.

    Attributes:
        open: opens the store that a URL names, and makes it if there is none.
        imports: whether its stores take events of another store as they are. If not,
            `EventStore.import_events` raises `ConfigurationError`.
        open_log: opens the log of a store that is there for reading, without the right to write,
            and writes nothing; None when that cannot be done.
    """

    open: Callable[[str], Awaitable[EventStore]]
    imports: bool = True
    open_log: Callable[[str], Awaitable[ReadableLog]] | None = None
