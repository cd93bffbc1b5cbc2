"""A service's codec stands between what is decided and what is stored, and nothing goes past it."""

import asyncio
import json
import zlib
from pathlib import Path
from typing import Annotated, Any

import pytest

from headwater.errors import EventUnreadable
from headwater.eventbus import BusEvent
from headwater.eventbus.sqlite import SQLiteEventBus
from headwater.eventstore.retag import retag_store
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.messages import Codec, Command, Event, Query, Tag
from headwater.messages.sealing import is_sealed
from headwater.modelling import (
    Aggregate,
    DecisionModel,
    Projection,
    Repository,
    Saga,
    command_handler,
    event_handler,
    event_sourcing_handler,
    query_handler,
    saga_handler,
)
from headwater.modelling.snapshot_check import check_snapshots
from headwater.operations.retag import codec_of
from headwater.processing import DeadLetter
from headwater.processing.handling.dead_letters import letters
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.testing.eventstore_base import log_of
from headwater.views import Key, View
from headwater.views.sqlite import SQLiteViewStore
from tests.integration.cli.conftest import headwater
from tests.integration.processing.conftest import until

SECRET = "xyzzy" * 20


class Zlib:
    """Compresses what belongs to a stream, whose name it needs to read it again."""

    def encode(self, content: bytes, *, stream: str) -> bytes:
        return zlib.compress(stream.encode() + b"|" + content)

    def decode(self, stored: bytes, *, stream: str) -> bytes:
        owner, _, content = zlib.decompress(stored).partition(b"|")
        if owner.decode() != stream:
            raise KeyError(stream)
        return content


class WriteNote(Command):
    note_id: str
    text: str


class GrowNote(Command):
    note_id: str


class CopyNote(Command):
    note_id: str
    source_id: str


class NoteWritten(Event):
    note_id: Annotated[str, Tag("note")]
    text: str


class NoteGrown(Event):
    note_id: Annotated[str, Tag("note")]
    text: str


class Source(DecisionModel):
    """The text of another note."""

    source_id: Annotated[str, Tag("note")] = ""
    text: str = ""

    @event_sourcing_handler
    def written(self, event: NoteWritten) -> None:
        self.text = event.text


class Note(Aggregate):
    snapshot_every = 2
    text: str = ""

    @command_handler(creates=True)
    def write(self, command: WriteNote) -> NoteWritten:
        return NoteWritten(command.note_id, command.text)

    @command_handler(creates=True)
    def copied(self, command: CopyNote, source: Source) -> NoteWritten:
        return NoteWritten(command.note_id, source.text)

    @command_handler
    def grow(self, command: GrowNote) -> NoteGrown:
        return NoteGrown(command.note_id, f"{self.text}!")

    @event_sourcing_handler
    def written(self, event: NoteWritten) -> None:
        self.text = event.text

    @event_sourcing_handler
    def grown(self, event: NoteGrown) -> None:
        self.text = event.text


class Length(View):
    id: Annotated[str, Key]
    length: int = 0


class GetLength(Query[int]):
    id: str


class Lengths(Projection):
    @event_handler(Length, key="note_id")
    def written(self, event: NoteWritten) -> Length:
        if event.text.startswith("bad"):
            raise ValueError(event.note_id)
        return Length(event.note_id, len(event.text))

    @query_handler
    async def get(self, query: GetLength) -> int:
        found = await self.views.get(Length, query.id)
        return -1 if found is None else found.length


class BusLengths(Lengths):
    source = "bus"


class Watch(Saga):
    length: int = 0

    @saga_handler(key="note_id", starts=True)
    def written(self, event: NoteWritten) -> None:
        self.length = len(event.text)

    @saga_handler(key="note_id")
    def grown(self, event: NoteGrown) -> None:
        self.length += 1
        if len(event.text) != self.length:
            raise ValueError(event.note_id)


def notes(codec: Codec | None) -> Service:
    return Service("notes", aggregates=[Note], projections=[Lengths], sagas=[Watch], codec=codec)


def given(folder: Path, **more: Any) -> dict[str, Any]:
    bus = f"sqlite:{folder}/bus.db"
    return {"data": str(folder), "bus": bus, "partitions": 1, "retry_attempts": 1, **more}


def holding(folder: Path, text: str) -> list[str]:
    """Return the files that have a text in them."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [file.name for file in files if text.encode() in file.read_bytes()]


async def write_some(running: Runtime) -> Any:
    """Have contents stored in each way there is; return the last outcome."""
    await running.commands.send(WriteNote("a", SECRET))
    await running.commands.send(WriteNote("b", f"bad {SECRET}"))
    await running.commands.send(CopyNote("c", "a"))
    await running.commands.send(GrowNote("b"))
    return await running.commands.send(GrowNote("a"))


async def test_nothing_goes_past_it(tmp_path: Path) -> None:
    """Events, snapshots, letters and the bus hold what the codec made; who handles it reads it."""
    reader = Service("reader", projections=[BusLengths], codec=Zlib())
    async with (
        Runtime(notes(Zlib()), given(tmp_path)) as running,
        Runtime(reader, given(tmp_path)) as other,
    ):
        done = await write_some(running)
        assert await running.queries.ask(GetLength("a"), token=done.token) == len(SECRET)
        assert await running.queries.ask(GetLength("c"), token=done.token) == len(SECRET)

        async def crossed() -> bool:
            return await other.queries.ask(GetLength("c")) == len(SECRET)

        await until(crossed)
    async with Runtime(notes(Zlib()), given(tmp_path)) as again:  # from the snapshot on
        assert (await again.commands.send(GrowNote("a"))).version == 3
        assert again.repositories["Note"].snapshots.left_out == 0

    assert not holding(tmp_path, SECRET)
    store = await SQLiteEventStore.open(tmp_path / "notes" / "events.db")
    assert [is_sealed(event.data) for event in await log_of(store)] == [True] * 6
    kept = await store.load_snapshot("Note/a")
    assert kept is not None
    assert is_sealed(kept.data)
    checked = [one.verdict async for one in check_snapshots(Note, store, codec=Zlib())]
    assert set(checked) == {"same"}
    state = await Repository(Note, store, source="notes", codec=Zlib()).state("a")
    assert state.state.text == f"{SECRET}!!"
    tagged = await retag_store(store, codec_of(notes(None))[0], through=Zlib(), check=True)
    assert (tagged.changed, tagged.unread) == ({}, 0)
    await store.close()
    views = await SQLiteViewStore.open(tmp_path / "notes" / "views.db")
    await views.ensure([DeadLetter])
    found = [letter async for letter in letters(views)]
    assert [letter.type for letter in found] == ["NoteWritten"]
    assert all(letter.event and is_sealed(letter.event.data) for letter in found)
    await views.close()
    bus = await SQLiteEventBus.open(tmp_path / "bus.db", partitions=1)
    sent: list[BusEvent] = []
    async with asyncio.timeout(30):
        async for deliveries in bus.subscribe(after={0: -1}):
            sent += [delivery.event for delivery in deliveries]
            if len(sent) >= 5:
                break
    assert all(is_sealed(event.data) for event in sent)
    await bus.close()


async def test_it_is_given_to_a_service_that_has_events(tmp_path: Path) -> None:
    """What was stored before there was a codec stays readable, beside what is stored through it."""
    async with Runtime(notes(None), given(tmp_path)) as plain:
        await plain.commands.send(WriteNote("a", SECRET))
    async with Runtime(notes(Zlib()), given(tmp_path)) as sealed:
        done = await sealed.commands.send(GrowNote("a"))
        assert done.version == 2
        assert await sealed.queries.ask(GetLength("a"), token=done.token) == len(SECRET)


async def test_it_is_taken_away(tmp_path: Path) -> None:
    """Without its codec an event is unreadable, which says why and harms no other."""
    async with Runtime(notes(Zlib()), given(tmp_path)) as sealed:
        await sealed.commands.send(WriteNote("a", SECRET))
    async with Runtime(notes(None), given(tmp_path)) as plain:
        with pytest.raises(EventUnreadable, match="stored through a codec"):
            await plain.commands.send(GrowNote("a"))
        done = await plain.commands.send(WriteNote("b", "plain"))
        assert await plain.queries.ask(GetLength("b"), token=done.token) == 5


async def test_a_content_of_another_stream(tmp_path: Path) -> None:
    """What the codec cannot decode is the fault of one event, and says which and what it said."""
    store = await SQLiteEventStore.open(tmp_path / "notes" / "events.db")
    async with Runtime(notes(Zlib()), given(tmp_path)) as running:
        await running.commands.send(WriteNote("a", SECRET))
        [event] = await log_of(store)
        moved = f"UPDATE events SET data = x'{event.data[:9].hex()}'"
        await store._database.write(lambda writer: writer.execute(moved).fetchall())
        running.repositories["Note"]._live.discard("a", running.repositories["Note"]._live.get("a"))
        with pytest.raises(EventUnreadable, match=r"version 1 of stream 'Note/a'.*cannot decode"):
            await running.commands.send(GrowNote("a"))
        assert (await running.commands.send(WriteNote("b", "fine"))).version == 1
    await store.close()


def test_commands_that_look_show_what_is_stored(tmp_path: Path) -> None:
    """``headwater events`` has no codec: it shows sealed contents as base64."""

    async def fill() -> None:
        async with Runtime(notes(Zlib()), given(tmp_path)) as running:
            await running.commands.send(WriteNote("a", SECRET))

    asyncio.run(fill())
    store = str(tmp_path / "notes" / "events.db")
    done = headwater("events", "--store", store, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"].startswith("/3")
    assert headwater("events", "--store", store).returncode == 0
