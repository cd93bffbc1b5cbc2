"""The cache of live aggregates: each with the state that its next command is decided on."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

import msgspec

from headwater.errors import (
    ConcurrencyConflict,
    Conflict,
    Overloaded,
    PipelineBroken,
    StoreUnavailable,
)
from headwater.eventstore import Pipeline

_CONTENDED = 100  # decisions for which an aggregate counts as contended after a conflict


class Kept(msgspec.Struct, frozen=True):
    """A durable state in encoded form, to go on from when the aggregate's own came to nothing."""

    data: bytes
    version: int
    snapshot_version: int


class LiveAggregate:
    """One aggregate in memory.

    ``state`` and ``version`` are as of the last event decided, which may not be on disk yet;
    ``durable`` is the version known to be on disk. When the pipeline breaks, the state contains
    something that never happened, and this is thrown away. What was ``kept`` before remains
    true: only the events after it have to be read. To keep costs as much as the state is large,
    so only those are kept that were contended not long ago, by another process.
    """

    __slots__ = (
        "contended",
        "durable",
        "in_flight",
        "kept",
        "pipeline",
        "snapshot_version",
        "state",
        "version",
        "waiters",
    )

    def __init__(
        self, state: Any, version: int, snapshot_version: int, *, contended: bool = False
    ) -> None:
        """Begin with a durable state."""
        self.state = state
        self.version = version
        self.durable = version
        self.snapshot_version = snapshot_version
        self.pipeline = Pipeline()
        self.in_flight = 0
        self.waiters: list[tuple[int, asyncio.Future[None]]] = []
        self.contended = _CONTENDED if contended else 0
        self.kept: Kept | None = None

    def keep(self, data: bytes) -> None:
        """Keep the state, which is durable, in encoded form."""
        self.contended -= 1
        self.kept = Kept(data, self.version, self.snapshot_version)

    @property
    def repeated(self) -> bool:
        """Whether the pipeline broke because one of its commands proved to be stored before."""
        return isinstance(self.pipeline.broken, PipelineBroken)

    @property
    def spoiled(self) -> bool:
        """Whether the pipeline broke because something in it can never be stored."""
        why = self.pipeline.broken
        return why is not None and not isinstance(why, (Conflict, StoreUnavailable, Overloaded))

    def kept_despite(self, conflict: Exception | None) -> Kept | None:
        """Return what was kept, unless a snapshot is newer or the stream was never that long."""
        if self.kept is None or self.kept.snapshot_version < self.snapshot_version:
            return None
        why = self.pipeline.broken or conflict
        shorter = isinstance(why, ConcurrencyConflict) and 0 <= why.actual < self.kept.version
        return None if shorter else self.kept

    async def settled(self, version: int) -> bool:
        """Wait until a version is durable; return False when the pipeline broke instead."""
        while self.durable < version and self.pipeline.broken is None and self.in_flight:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiters.append((version, waiter))
            await waiter
        return self.pipeline.broken is None and self.durable >= version

    def landed(self, version: int) -> None:
        """Note the end of one append; ``version`` is durable now (0: the append failed)."""
        self.in_flight -= 1
        self.durable = max(self.durable, version)
        if not self.waiters:
            return
        stuck = self.pipeline.broken is not None or not self.in_flight
        for waited, waiter in self.waiters:
            if (stuck or waited <= self.durable) and not waiter.done():
                waiter.set_result(None)
        self.waiters = [pair for pair in self.waiters if not pair[1].done()]


class LiveAggregates:
    """The most recently used aggregates, at most ``size`` of them (more while all in flight)."""

    def __init__(self, size: int) -> None:
        """Start empty."""
        self._size = size
        self._live: OrderedDict[str, LiveAggregate] = OrderedDict()

    def get(self, id: str) -> LiveAggregate | None:
        """Return a usable one, and count it as used now."""
        live = self._live.get(id)
        if live is None:
            return None
        if live.pipeline.broken is not None:
            del self._live[id]
            return None
        self._live.move_to_end(id)
        return live

    def put(self, id: str, live: LiveAggregate) -> None:
        """Keep one, and make room for it."""
        self._live[id] = live
        self.trim()

    def trim(self) -> None:
        """Let go of the least recently used ones that are idle, if there are too many."""
        excess = len(self._live) - self._size
        if excess > 0:
            looked_at = min(excess + 8, 64, len(self._live) - 1)  # some may be in flight
            oldest = list(islice(self._live.items(), looked_at))
            idle = [id for id, live in oldest if not live.in_flight]
            for id in idle[:excess]:
                del self._live[id]

    def discard(self, id: str, live: LiveAggregate) -> None:
        """Let go of one, if it is still the current one."""
        if self._live.get(id) is live:
            del self._live[id]

    def __len__(self) -> int:
        return len(self._live)


class _Turn:
    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Turns:
    """Lets those of one id go one at a time, in order, until none of them is left.

    Of commands in a pipeline each one that cannot be stored breaks all behind it. Where that
    happened to a command again and again, going one by one costs less than another try together.
    """

    def __init__(self) -> None:
        """All go together."""
        self.taken: dict[str, _Turn] = {}

    @asynccontextmanager
    async def take(self, id: str) -> AsyncIterator[None]:
        """Wait for the turn, and hold it."""
        turn = self.taken.get(id)
        if turn is None:
            turn = self.taken[id] = _Turn()
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self.taken[id]
