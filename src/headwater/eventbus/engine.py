"""What opens the event buses of a URL scheme."""

from collections.abc import Awaitable, Callable

from headwater.engines import Engine
from headwater.eventbus.api import EventBus


class EventBusEngine(Engine, frozen=True, kw_only=True):
    """An engine of event buses: registered in the group ``headwater.eventbuses``.

    Attributes:
        open: opens the bus that a URL names, and makes it with a number of partitions if there is
            none; raises `ConfigurationError` if there is one with another number.
        ordered: whether partitions are in order among each other; see `EventBus.ordered`.
        drops_repeated: whether an event that is published again is delivered once only.
        forgets: whether events that all have read are forgotten; see `EventBus.forget`.
        tells_stored: whether it says how much of a source it has; see `EventBus.stored`.
    """

    ordered: bool
    drops_repeated: bool
    forgets: bool = True
    tells_stored: bool = False
    open: Callable[[str, int], Awaitable[EventBus]]
