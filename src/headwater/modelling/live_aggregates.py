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

_CONTENDED = 100  # decisions for which a cell counts as contended after a conflict


class Kept(msgspec.Struct, frozen=True):
    """A durable state in encoded form, to go on from when the cell's own came to nothing."""

    data: bytes
    version: int
    snapshot_version: int


class Cell:
    """One aggregate in memory.

    ``state`` and ``version`` are as of the last event decided, which may not be on disk yet;
    ``durable`` is the version known to be on disk. When the pipeline breaks, the state contains
    something that never happened, and the cell is thrown away. What was ``kept`` before remains
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


class CellCache:
    """The most recently used cells, at most ``size`` of them (more while all are in flight)."""

    def __init__(self, size: int) -> None:
        """Start empty."""
        self._size = size
        self._cells: OrderedDict[str, Cell] = OrderedDict()

    def get(self, id: str) -> Cell | None:
        """Return a usable cell, and count it as used now."""
        cell = self._cells.get(id)
        if cell is None:
            return None
        if cell.pipeline.broken is not None:
            del self._cells[id]
            return None
        self._cells.move_to_end(id)
        return cell

    def put(self, id: str, cell: Cell) -> None:
        """Keep a cell, and make room for it."""
        self._cells[id] = cell
        self.trim()

    def trim(self) -> None:
        """Let go of the least recently used cells that are idle, if there are too many."""
        excess = len(self._cells) - self._size
        if excess > 0:
            looked_at = min(excess + 8, 64, len(self._cells) - 1)  # some may be in flight
            oldest = list(islice(self._cells.items(), looked_at))
            idle = [id for id, cell in oldest if not cell.in_flight]
            for id in idle[:excess]:
                del self._cells[id]

    def discard(self, id: str, cell: Cell) -> None:
        """Let go of a cell, if it is still the current one."""
        if self._cells.get(id) is cell:
            del self._cells[id]

    def __len__(self) -> int:
        return len(self._cells)


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
