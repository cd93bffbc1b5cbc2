"""What the parts of the view store suite share: documents, a clock, the fixture, helpers."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from headwater.views import Index, Key, Segment, View, ViewStore, ViewStoreEngine

WAIT_S_MAX = 30.0


class Person(View):
    """A document with indexes."""

    id: Annotated[str, Key]
    city: Annotated[str, Index] = ""
    age: Annotated[float | None, Index] = 0
    member: Annotated[bool, Index] = False
    nickname: Annotated[str | None, Index] = None
    notes: list[str] = msgspec.field(default_factory=list)


class Numbered(View):
    """A document whose key is a number, without indexes."""

    number: Annotated[int, Key]
    text: str = ""


class Renamed(View, rename="camel"):
    """A document whose fields have other names in JSON."""

    row_id: Annotated[str, Key]
    home_town: Annotated[str | None, Index] = msgspec.field(default=None, name="city")
    born_in: Annotated[int, Index] = 0


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        """Start somewhere."""
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def other_form(name: str, **fields: Any) -> type[View]:
    """Return another view class of the same name, as a later release would declare it."""
    return type(name, (View,), {"__annotations__": fields, "__module__": __name__})


class ViewStoreSuite:
    """Opens the store of one test."""

    pytestmark = pytest.mark.asyncio
    engine: ClassVar[ViewStoreEngine]

    async def open_store(self, place: Path, clock: Callable[[], float]) -> ViewStore:
        """Open a store whose data is in the directory ``place``."""
        raise NotImplementedError

    @property
    def shared(self) -> bool:
        """Whether stores at one place share their data, and keep it when all are closed."""
        return self.engine.shared

    @pytest.fixture
    def clock(self) -> Clock:
        """Return the clock of the stores' leases."""
        return Clock()

    @pytest_asyncio.fixture
    async def store(self, tmp_path: Path, clock: Clock) -> AsyncIterator[ViewStore]:
        """Open a store with room for the suite's documents."""
        store = await self.open_store(tmp_path, clock)
        await store.ensure([Person, Numbered, Renamed])
        yield store
        await store.close()


async def save(store: ViewStore, *views: View) -> None:
    """Save documents in a transaction of their own."""
    async with store.transaction() as work:
        await work.save(views)


async def one_segment(store: ViewStore, *, processor: str = "p", generation: int = 1) -> Segment:
    """Make and return the one segment of a processor."""
    (segment,) = await store.open_segments(processor, count=1, token="0", generation=generation)
    return segment


async def claim(store: ViewStore, segment: Segment, *, owner: str = "me") -> Segment:
    """Claim a segment that is free, for 10 seconds."""
    claimed = await store.claim(segment, owner=owner, lease_s=10)
    assert claimed is not None
    return claimed


async def count_all(iterator: AsyncIterator[Any]) -> int:
    """Count the items until the iterator ends."""
    return len([item async for item in iterator])
