"""What a service under test finds outside of itself: engines in memory, the others, a clock."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from headwater.client.declarations import declaration_of
from headwater.discovery import LocalDiscovery
from headwater.errors import ConfigurationError, DeclarationError
from headwater.eventbus import EventBus
from headwater.eventbus.memory import MemoryEventBus
from headwater.eventstore import ShardedEventStore, StreamStore
from headwater.eventstore.memory import MemoryEventStore
from headwater.service.surroundings import Surroundings
from headwater.views import ViewStore
from headwater.views.memory import MemoryViewStore

_MEMORY = "memory:"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """The time of a test: it stands still until it is moved.

    Attributes:
        now: with its zone, UTC.
    """

    def __init__(self, now: datetime | None = None) -> None:
        """Begin at a time with a zone; None: at the machine's, cut to seconds.

        Raises:
            ConfigurationError: the time has no zone.
        """
        if now is not None and now.tzinfo is None:
            raise ConfigurationError(
                subject=f"now={now!r}", reason="says no zone: datetime(..., tzinfo=UTC)"
            )
        self.now: datetime = (now or datetime.now(UTC).replace(microsecond=0)).astimezone(UTC)
        self.fixed_by = ""  # what has a clock of its own, which nobody moves

    def advance(self, duration: timedelta) -> None:
        """Let time pass at once, whatever should have happened meanwhile.

        See `Running.after` for what most tests want.

        Raises:
            ConfigurationError: the time would run backwards, or an engine has its own.
        """
        if self.fixed_by:
            raise ConfigurationError(
                subject="the clock",
                reason=f"cannot be moved, as {self.fixed_by} has one of its own: keep it in memory",
            )
        if duration < timedelta():
            raise ConfigurationError(subject="the clock", reason=f"cannot go back, by {duration}")
        self.now += duration

    def us(self) -> int:
        """Return the time in microseconds since 1970 UTC."""
        return (self.now - _EPOCH) // timedelta(microseconds=1)

    def s(self) -> float:
        """Return the time in seconds since 1970 UTC."""
        return self.us() / 1_000_000


class TestSurroundings(Surroundings):
    """Those of one service under test; the bus in memory and the others belong to all of them."""

    __test__ = False
    bridged = False

    def __init__(
        self,
        *,
        clock: Clock,
        discovery: LocalDiscovery,
        bus: "SharedBus",
        clients: Mapping[Any, object],
        config: Mapping[str, Any],
    ) -> None:
        """Use what all services of the test share."""
        self.clock = clock
        self.discovery = discovery
        self.clients = clients
        self.config = config
        self._bus = bus
        self._ticks = super().ticks

    def ticks(self) -> float:
        """See `Surroundings.ticks`."""
        return self._ticks()

    async def open_stream_store(self, urls: Sequence[str]) -> StreamStore:
        """See `Surroundings.open_stream_store`."""
        if any(url != _MEMORY for url in urls):
            self.clock.fixed_by = "the event store"
            return await super().open_stream_store(urls)
        shards = [MemoryEventStore(clock=self.clock.us) for _ in urls]
        if len(shards) == 1:
            return shards[0]
        return await ShardedEventStore.open(shards, names=[_MEMORY] * len(shards))

    async def open_view_store(self, url: str) -> ViewStore:
        """See `Surroundings.open_view_store`."""
        if url != _MEMORY:
            self.clock.fixed_by = "the view store"
            return await super().open_view_store(url)
        self._ticks = self.clock.s
        return MemoryViewStore(clock=self.clock.s)

    async def open_event_bus(self, url: str, *, partitions: int) -> EventBus:
        """See `Surroundings.open_event_bus`."""
        if url != _MEMORY:
            return await super().open_event_bus(url, partitions=partitions)
        return self._bus


class SharedBus(MemoryEventBus):
    """A bus in memory that lasts as long as the test, whichever service closes it."""

    async def close(self) -> None:
        """Nothing to do: others may still read it."""


def check_clients(clients: Mapping[Any, object]) -> None:
    """Check that each fake has all methods of the interface that it stands for.

    Raises:
        DeclarationError: a method is missing, or the interface is no declared client.
    """
    for contract, fake in clients.items():
        declaration = declaration_of(contract)
        missing = [n for n in declaration.endpoints if not callable(getattr(fake, n, None))]
        if missing:
            raise DeclarationError(
                subject=f"the fake {type(fake).__name__} of {declaration.name}",
                reason=f"lacks {', '.join(missing)}: write what the service under test may call",
            )


__all__ = ["Clock", "SharedBus", "TestSurroundings", "check_clients"]
