"""What the services on a bus have told each other: a stream of notes, each decided by its place.

Everybody who reads the notes comes to the same result, as they are read in the order of the log.
The first note of how the bus was made counts. An announcement counts unless one of its types is
another one than what another service had announced by then: so none comes between the two.
"""

import asyncio
import uuid
from collections.abc import Sequence

import msgspec
from rstream import schema
from rstream.constants import OffsetType

from headwater.errors import StoreCorrupt
from headwater.eventbus.rabbitmq import framing
from headwater.eventbus.rabbitmq.link import Link, Links
from headwater.eventbus.rabbitmq.reading import HEADER, Reader
from headwater.eventbus.rabbitmq.settings import Place
from headwater.eventbus.types import EventType, clashes

_PUBLISHER = 255
_PAGE_SIZE = 1000
_ONLY = 0  # the number of the one stream


class Note(msgspec.Struct, omit_defaults=True):
    """A note.

    Attributes:
        id: unique.
        made: the bus is made with this number of partitions.
        ready: all of their streams are there.
        source: whose types these are, in the place of its former ones.
        types: the types.
    """

    id: str
    made: int = 0
    ready: bool = False
    source: str = ""
    types: tuple[EventType, ...] = ()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Note).decode


class Known:
    """What is known from the notes that were read."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.partitions = 0
        self.ready = False
        self.types: dict[str, tuple[EventType, ...]] = {}

    def read(self, note: Note) -> list[tuple[EventType, EventType]]:
        """Learn from the next note; return with what its types clash, if they do."""
        self.partitions = self.partitions or note.made
        self.ready = self.ready or note.ready
        if not note.source:
            return []
        found = clashes(note.types, [one for types in self.types.values() for one in types])
        if not found:
            self.types[note.source] = note.types
        return found


class Notes:
    """The notes of a bus."""

    def __init__(self, place: Place) -> None:
        """Prepare; nothing is opened before it is needed."""
        self._place = place
        self._links = Links(place, [place.notes])
        self._lock = asyncio.Lock()

    async def know(self) -> Known:
        """Return what is known by now.

        Raises:
            StoreUnavailable: the broker is away.
            StoreCorrupt: somebody else has written there.
        """
        async with self._lock:
            return await self._known()

    async def made(self, partitions: int) -> Known:
        """Note that the bus is made, and return what is known then; raises as `know`."""
        async with self._lock:
            known, _ = await self._add(Note(id=_unique(), made=partitions))
            return known

    async def ready(self) -> None:
        """Note that all partitions are there; raises as `know`."""
        async with self._lock:
            await self._add(Note(id=_unique(), ready=True))

    async def announce(
        self, source: str, types: Sequence[EventType]
    ) -> list[tuple[EventType, EventType]]:
        """Note the types of a service, if they do not clash; raises as `know`.

        What it has announced already, as at most starts, is not noted again.
        """
        async with self._lock:
            if (await self._known()).types.get(source) == tuple(types):
                return []
            _, found = await self._add(Note(id=_unique(), source=source, types=tuple(types)))
            return found

    async def close(self) -> None:
        """Close the connection. Twice is fine."""
        await self._links.close()

    async def _link(self) -> Link:
        return (await self._links.get())[self._place.notes]

    async def _known(self) -> Known:
        link = await self._link()
        last = await link.chunk_at(self._place.notes, OffsetType.LAST)
        known, _ = await self._read(until=last.chunk_first_offset + last.num_records - 1)
        return known

    async def _add(self, note: Note) -> tuple[Known, list[tuple[EventType, EventType]]]:
        link = await self._link()
        await store(link, self._place.notes, framing.encode(_encode(note)))
        return await self._read(until_id=note.id)

    async def _read(
        self, *, until: int = -1, until_id: str = ""
    ) -> tuple[Known, list[tuple[EventType, EventType]]]:
        """Read from the begin up to an offset, or to a note; return what that one clashes with."""
        known = Known()
        reader = Reader(self._place, self._links, {_ONLY: self._place.notes})
        try:
            await reader.start({_ONLY: 0})
            while True:
                for stored in await reader.page(_PAGE_SIZE):
                    if stored.message != HEADER:
                        note = self._note(stored.message)
                        found = known.read(note)
                        if note.id == until_id:
                            return known, found
                    if stored.offset == until:
                        return known, []
        finally:
            await reader.close()

    def _note(self, message: bytes) -> Note:
        try:
            return _decode(framing.decode(message))
        except Exception as error:
            reason = f"stream {self._place.notes!r} has what is no note: {error}"
            raise StoreCorrupt(store=self._place.name, reason=reason) from error


async def store(link: Link, stream: str, message: bytes, *, name: str = "") -> None:
    """Store one message; with the name of a publisher only if that has never stored one.

    Raises:
        StoreUnavailable: the broker is away.
    """
    confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def confirm(frame: schema.PublishConfirm) -> None:
        if frame.publisher_id == _PUBLISHER and not confirmed.done():
            confirmed.set_result(None)

    def refuse(frame: schema.PublishError) -> None:
        link.lose(f"the broker has refused to store (code {frame.errors[0].response_code})")

    client = link.client
    client.add_handler(schema.PublishConfirm, confirm, "store")
    client.add_handler(schema.PublishError, refuse, "store")
    await link.ask(client.declare_publisher(stream, name, _PUBLISHER))
    frame = schema.Publish(_PUBLISHER, [schema.Message(1, None, message)])
    await link.ask(client.send_publish_frame(frame), outcome="unknown")
    await link.wait_for(confirmed)
    await link.ask(client.delete_publisher(_PUBLISHER))


def _unique() -> str:
    return uuid.uuid4().hex


__all__ = ["Known", "Note", "Notes", "store"]
