"""What all parts of the event store suite share."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import pytest_asyncio

from headwater.errors import ConfigurationError
from headwater.eventstore import (
    EVERYTHING,
    Appended,
    EventFilter,
    EventStore,
    EventStoreEngine,
    FilterItem,
    NewEvent,
    Page,
    StoredEvent,
    StreamWrite,
)

C = TypeVar("C", bound=Callable[..., object])
T = TypeVar("T")
_ABSENT = (ConfigurationError, AssertionError)  # the second where all that a test tries fails

WAIT_S_MAX = 30.0


class ManualClock:
    """A clock in microseconds that moves only when a test sets it."""

    def __init__(self) -> None:
        """Start somewhere."""
        self.now = 1_700_000_000_000_000

    def __call__(self) -> int:
        """Return the time."""
        return self.now


class EventStoreBase:
    """Opens stores and closes them after each test."""

    pytestmark = pytest.mark.asyncio
    engine: ClassVar[EventStoreEngine]

    async def open_store(self, place: Path, clock: Callable[[], int]) -> EventStore:
        """Open a store whose log is in the directory ``place``."""
        raise NotImplementedError

    def url(self, place: Path) -> str:
        """Return the URL of the store whose log is in the directory ``place``."""
        raise NotImplementedError

    @property
    def shared(self) -> bool:
        """Whether stores at one place are the same log, which also outlives them."""
        return self.engine.shared

    @pytest.fixture(autouse=True)
    def _declared(self, request: pytest.FixtureRequest) -> None:
        """What an engine does not declare must be absent: a test that needs it has to fail."""
        if getattr(request.function, "imports", False) and not self.engine.imports:
            absent = pytest.mark.xfail(raises=_ABSENT, strict=True, reason="no imports declared")
            request.node.add_marker(absent)

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Return the clock that stamps events."""
        return ManualClock()

    @pytest_asyncio.fixture
    async def opened(
        self, tmp_path: Path, clock: ManualClock
    ) -> AsyncIterator[Callable[[], Awaitable[EventStore]]]:
        """Return a function that opens one more store at the same place."""
        stores: list[EventStore] = []

        async def open_one() -> EventStore:
            stores.append(await self.open_store(tmp_path, clock))
            return stores[-1]

        yield open_one
        for store in stores:
            await store.close()

    @pytest_asyncio.fixture
    async def store(self, opened: Callable[[], Awaitable[EventStore]]) -> EventStore:
        """Open an empty store."""
        return await opened()


def importing(test: C) -> C:
    """Mark a test, or all of a class, as one that imports events."""
    tests: list[Any] = [*vars(test).values()] if isinstance(test, type) else [test]
    for each in tests:
        if getattr(each, "__name__", "").startswith("test_"):
            each.imports = True
    return test


def event(
    type: str = "Happened", *tags: str, data: bytes = b"{}", metadata: bytes = b'{"id":"1"}'
) -> NewEvent:
    """Return an event to append."""
    return NewEvent(type, 1, data, metadata, tags)


def write(stream: str, *events: NewEvent, expected: int | None = None) -> StreamWrite:
    """Return a write of some events, one by default."""
    return StreamWrite(stream, events or (event(),), expected)


def matching(*tags: str, types: tuple[str, ...] = ()) -> EventFilter:
    """Return a filter of one item."""
    return EventFilter((FilterItem(types, tags),))


async def put(store: EventStore, *writes: StreamWrite) -> Appended:
    """Append without a condition."""
    return await store.append(writes)


async def pages_of(pages: AsyncIterator[Page]) -> list[Page]:
    """Return all pages."""
    return [page async for page in pages]


async def events_of(pages: AsyncIterator[Page]) -> list[StoredEvent]:
    """Return the events of all pages."""
    return [event async for page in pages for event in page.events]


async def log_of(store: EventStore, filter: EventFilter = EVERYTHING) -> list[StoredEvent]:
    """Return everything that is stored and matches."""
    return await events_of(store.read(filter=filter))


def places(events: list[StoredEvent]) -> list[tuple[int, str, int]]:
    """Return where events are: position, stream, version."""
    return [(event.position, event.stream, event.version) for event in events]


async def soon(awaitable: Awaitable[T]) -> T:
    """Return the result, which must come within a bounded time."""
    return await asyncio.wait_for(awaitable, WAIT_S_MAX)


async def settled(*awaitables: Awaitable[T]) -> list[T | BaseException]:
    """Run all at once; return their results or errors, in order."""
    return await soon(asyncio.gather(*awaitables, return_exceptions=True))
