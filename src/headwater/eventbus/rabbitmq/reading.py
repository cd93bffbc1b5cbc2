"""Reading streams: what the broker sends, bounded by credits, page by page.

A stream is sent in chunks, as they were stored. A subscription after an offset begins with the
chunk that holds it, and when there is none such any more, with the first one that there is. The
offsets of a stream may have gaps, where the broker has noted something for itself.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from rstream import schema
from rstream.constants import OffsetType

from headwater.errors import EventsForgotten, MalformedMessage, StoreUnavailable
from headwater.eventbus import base
from headwater.eventbus.api import Delivery
from headwater.eventbus.rabbitmq import framing
from headwater.eventbus.rabbitmq.link import Link, Links
from headwater.eventbus.rabbitmq.settings import Place

HEADER = framing.encode(
    b'{"specversion":"1.0","id":"header","source":"headwater","type":"headwater.Header"}'
)
"""The first message of every stream of a bus, so that none is ever empty. No event."""

_CREDIT = 2  # chunks of a stream that are here or on their way


class Stored(NamedTuple):
    """A message of a stream: which of those that are read, its offset there."""

    number: int
    offset: int
    message: bytes


class _Chunk:
    """A chunk that has arrived, and how far it was read."""

    __slots__ = ("first", "messages", "read")

    def __init__(self, chunk: schema.Deliver) -> None:
        self.first: int = chunk.chunk_first_offset
        self.messages = chunk.get_messages()
        self.read = 0

    @property
    def end(self) -> int:
        return self.first + len(self.messages)


class Reader:
    """Reads some streams of a bus from offsets on."""

    def __init__(self, place: Place, links: Links, streams: Mapping[int, str]) -> None:
        """Prepare; ``streams`` have numbers, by which they are called here."""
        self._place = place
        self._links = links
        self._streams = streams
        self._wanted: dict[int, int] = {}  # by number, the next one to read first: its next offset
        self._subscribed: dict[int, tuple[Link, int]] = {}
        self._arrived: dict[int, deque[_Chunk]] = {number: deque() for number in streams}
        self._broken: Exception | None = None
        self._ready = asyncio.Event()

    async def start(self, wanted: Mapping[int, int]) -> None:
        """Let the streams be sent, each from the offset wanted.

        Raises:
            StoreUnavailable: a broker cannot be reached, or a stream ends before what is wanted.
        """
        self._wanted = dict(wanted)
        links = await self._links.get()
        for number, offset in wanted.items():
            link = links[self._streams[number]]
            link.at_end(self, self._ready.set)
            subscription = await link.subscribe(
                self._streams[number],
                schema.OffsetSpecOffset(OffsetType.OFFSET, offset),
                partial(self._take_in, number),
                credit=_CREDIT,
            )
            self._subscribed[number] = (link, subscription)
        await asyncio.gather(*(self._check_end(number, n) for number, n in wanted.items()))

    async def page(self, size: int) -> list[Stored]:
        """Wait for the next messages, and return them: in order within each stream.

        Raises:
            EventsForgotten: what was wanted next is not kept any more.
            StoreUnavailable: the broker was lost, or it has lost what was read of it.
        """
        while not any(self._arrived.values()):
            self._check()
            self._ready.clear()
            await self._ready.wait()
        self._check()
        page: list[Stored] = []
        for number in list(self._wanted):
            before = len(page)
            while (arrived := self._arrived[number]) and len(page) < size:
                await self._read(number, arrived, page, size)
            if len(page) > before:  # the first ones of this page are the last of the next
                self._wanted[number] = self._wanted.pop(number)
        return page

    async def close(self) -> None:
        """End the subscriptions."""
        subscribed, self._subscribed = self._subscribed, {}
        for link, subscription in subscribed.values():
            link.forget(self)
            await link.unsubscribe(subscription)

    def _check(self) -> None:
        for link, _ in self._subscribed.values():
            link.check()
        if self._broken is not None:
            raise self._broken

    async def _read(
        self, number: int, arrived: "deque[_Chunk]", page: list[Stored], size: int
    ) -> None:
        """Move messages of the first chunk of a stream to a page."""
        chunk, wanted = arrived[0], self._wanted[number]
        if not chunk.read:
            await self._check_next(number, chunk, wanted)
            chunk.read = max(0, wanted - chunk.first)
        end = min(len(chunk.messages), chunk.read + size - len(page))
        page += [Stored(number, chunk.first + n, chunk.messages[n]) for n in range(chunk.read, end)]
        chunk.read = end
        self._wanted[number] = chunk.first + end
        if end == len(chunk.messages):
            arrived.popleft()
            link, subscription = self._subscribed[number]
            await link.ask(link.client.credit(subscription, 1))

    async def _check_next(self, number: int, chunk: _Chunk, wanted: int) -> None:
        """Return if nothing is missing between what was read last and a chunk."""
        stream = self._streams[number]
        if chunk.end <= wanted:
            raise self._cut_short(number, wanted, chunk.end)
        if chunk.first <= wanted:
            return
        link, _ = self._subscribed[number]
        begin = (await link.chunk_at(stream, OffsetType.FIRST)).chunk_first_offset
        if begin > wanted:
            raise EventsForgotten(
                store=self._place.name,
                partition=number,
                after=offset_of(wanted - 1),
                begin=offset_of(begin),
            )

    async def _check_end(self, number: int, wanted: int) -> None:
        """Return if a stream goes up to what is wanted next: else nothing tells before that."""
        link, _ = self._subscribed[number]
        last = await link.chunk_at(self._streams[number], OffsetType.LAST)
        end = last.chunk_first_offset + last.num_records
        if end < wanted:
            raise self._cut_short(number, wanted, end)

    def _cut_short(self, number: int, wanted: int, end: int) -> StoreUnavailable:
        reason = (
            f"stream {self._streams[number]} had offset {wanted - 1}, and ends with {end - 1} now, "
            "so the broker has lost what it had stored"
        )
        return StoreUnavailable(store=self._place.name, reason=reason, outcome="not stored")

    def _take_in(self, number: int, chunk: schema.Deliver) -> None:
        try:
            self._arrived[number].append(_Chunk(chunk))
        except Exception as error:  # noqa: BLE001  # what another program has stored
            name = f"chunk at offset {offset_of(chunk.chunk_first_offset)} of partition {number}"
            self._broken = MalformedMessage(name=name, reason=str(error))
        self._ready.set()


def offset_of(stored: int) -> int:
    """Return the offset on the bus of an offset in a stream, whose first message is no event."""
    return stored - 1


def deliveries(page: Sequence[Stored]) -> list[Delivery]:
    """Return the events of a page.

    Raises:
        MalformedMessage: another program has stored something that is not a CloudEvents document.
    """
    return [_delivery(stored) for stored in page if stored.message != HEADER]


def _delivery(stored: Stored) -> Delivery:
    offset = offset_of(stored.offset)
    try:
        document = framing.decode(stored.message)
    except MalformedMessage as error:
        name = f"event at offset {offset} of partition {stored.number}"
        raise MalformedMessage(name=name, reason=error.reason) from error
    return base.delivery(stored.number, offset, document)


__all__ = ["HEADER", "Reader", "Stored", "deliveries", "offset_of"]
