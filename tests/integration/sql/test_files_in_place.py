"""Files of SQLite that are removed or replaced while they are in use."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import pytest

from headwater.errors import StoreUnavailable
from headwater.eventbus import BusEvent
from headwater.eventbus.sqlite import SQLiteEventBus
from headwater.eventstore import NewEvent, StreamWrite
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.messages import Event, new_metadata
from headwater.views import Key, View
from headwater.views.sqlite import SQLiteViewStore

Use = Callable[[Any, int], Awaitable[object]]


class Happened(Event):
    number: int


class Thing(View):
    id: Annotated[str, Key]


async def append(store: SQLiteEventStore, number: int) -> None:
    event = NewEvent.of(Happened(number), new_metadata())
    await store.append([StreamWrite(f"s{number}", [event])])


async def save(store: SQLiteViewStore, number: int) -> None:
    if not number:
        await store.ensure([Thing])
    async with store.transaction() as work:
        await work.save([Thing(str(number))])


async def claim(store: SQLiteViewStore, number: int) -> None:
    (segment,) = await store.open_segments("p", count=1, token="", generation=1)
    assert await store.claim(segment, owner="me", lease_s=1, restarted=True)
    if not number:
        await store.ensure([Thing])


async def publish(bus: SQLiteEventBus, number: int) -> None:
    await bus.publish([
        BusEvent(
            source="s", epoch="e", position=number + 1, stream="s", version=number + 1,
            type="Happened", type_version=1, time=0, tags=(), data=b"{}", metadata=b"{}",
        )
    ])  # fmt: skip


def removed(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(path.with_suffix(".old"))


def replaced(path: Path) -> None:
    """As a restored backup takes its place."""
    shutil.copy(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("change", [removed, moved, replaced])
@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (SQLiteEventStore, append),
        (SQLiteViewStore, save),
        (SQLiteViewStore, claim),
        (SQLiteEventBus, publish),
    ],
)
async def test_nothing_is_acknowledged(
    tmp_path: Path, kind: Any, use: Use, change: Callable[[Path], None]
) -> None:
    """What would be stored in a file that nobody else sees is refused, with reason and remedy."""
    path = tmp_path / "file.db"
    store = await kind.open(path)
    await use(store, 0)
    change(path)
    for number in (1, 2):
        with pytest.raises(StoreUnavailable, match=r"removed or replaced .* restart") as caught:
            await use(store, number)
        assert caught.value.outcome == "not stored"
        assert caught.value.store == str(path)
    await store.close()


async def test_reads_tell_of_it_too(tmp_path: Path) -> None:
    """The head of a log whose file is gone cannot be had, so health says so."""
    path = tmp_path / "events.db"
    store = await SQLiteEventStore.open(path)
    await append(store, 0)
    assert set(await asyncio.gather(*(store.head() for _ in range(50)))) == {1}
    path.unlink()
    for _ in range(10):
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await store.head()
    await store.close()


async def test_a_file_that_comes_back_is_used_again(tmp_path: Path) -> None:
    """Who moves the file away and back again ends the trouble; what was refused is not there."""
    path = tmp_path / "events.db"
    store = await SQLiteEventStore.open(path)
    await append(store, 0)
    aside = path.rename(tmp_path / "aside.db")
    with pytest.raises(StoreUnavailable):
        await append(store, 1)
    aside.rename(path)
    await append(store, 2)
    streams = [event.stream async for page in store.read() for event in page.events]
    assert streams == ["s0", "s2"]
    await store.close()
