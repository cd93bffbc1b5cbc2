"""Publishing the events of one source: each once, in order, and what was lost is told.

A stream remembers for each named publisher the last publishing id that it has stored, and drops
what is not above it. Our publisher is named after source and epoch, and the id of an event is its
position. Whoever publishes begins where all before is stored, and has one frame under way in each
partition: so what is dropped was stored before, whoever it came from.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from rstream import schema

from headwater.errors import ConfigurationError, StoreUnavailable
from headwater.eventbus import cloudevents
from headwater.eventbus.api import WATERMARK, BusEvent, partition_of
from headwater.eventbus.rabbitmq import framing
from headwater.eventbus.rabbitmq.link import Link, Links
from headwater.eventbus.rabbitmq.settings import Place

PARTITIONS_MAX = 120
"""Each partition needs two of the 256 publishers that a connection can have."""

_NAME_BYTES_MAX = 255
_FRAME_OVERHEAD, _MESSAGE_OVERHEAD = 64, 16  # bytes, rounded up
_PLAIN = 128  # publishers from this number on have no name: what they publish is never dropped


class _Frame(NamedTuple):
    plain: bool
    messages: list[schema.Message]

    @property
    def ids(self) -> set[int]:
        return {message.publishing_id for message in self.messages}


class _Confirms:
    """Waits until all ids of a frame are confirmed."""

    def __init__(self, ids: set[int]) -> None:
        self._missing = ids
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def confirm(self, ids: Iterable[int]) -> None:
        self._missing.difference_update(ids)
        if not self._missing and not self.done.done():
            self.done.set_result(None)


class Publication:
    """Publishes the events of one source and epoch."""

    def __init__(self, place: Place, partitions: int, *, source: str, epoch: str) -> None:
        """Prepare; nothing is opened before it is needed."""
        self._place = place
        self._partitions = partitions
        self._links = Links(place, [place.stream(n) for n in range(partitions)])
        self._name = publisher_name(source, epoch)
        self._source = source
        self._lock = asyncio.Lock()
        self._declared_on: Mapping[str, Link] = {}
        self._plain: set[int] = set()  # partitions where the nameless publisher is declared
        self._stored: dict[int, int] = {}  # by partition: the last position that was confirmed
        self._waiting: dict[tuple[Link, int], _Confirms] = {}
        self._behind = ""
        self._last_plain_id = 0

    async def publish(self, events: Sequence[BusEvent]) -> None:
        """Publish in order; return when all is confirmed.

        Raises:
            MalformedMessage: metadata cannot be encoded; nothing was published.
            ConfigurationError: an event is too large for the broker; nothing was published.
            StoreUnavailable: see `EventBus.publish`; or the broker has lost what it had confirmed.
        """
        encoded = [(event, framing.encode(cloudevents.encode(event))) for event in events]
        async with self._lock:
            links = await self._ready()
            if self._behind:
                raise StoreUnavailable(
                    store=self._place.name, reason=self._behind, outcome="not stored"
                )
            frames = self._frames(encoded, links)
            for number in range(max(map(len, frames.values()))):
                await self._send({p: f[number] for p, f in frames.items() if number < len(f)})

    async def stored(self) -> dict[int, int]:
        """Return by partition the last position that is there; see `EventBus.stored`.

        Raises:
            StoreUnavailable: the broker cannot be asked.
        """
        async with self._lock:
            self._stored = await self._sequences(await self._ready())
            self._behind = ""
            return dict(self._stored)

    async def close(self) -> None:
        """Close its connections. Twice is fine."""
        await self._links.close()

    async def _ready(self) -> Mapping[str, Link]:
        """Return connections on which all publishers are declared.

        If they are new ones the broker may have been away, and have come back with less.
        """
        links = await self._links.get()
        if links is self._declared_on:
            return links
        self._plain.clear()
        for link in set(links.values()):
            link.client.add_handler(schema.PublishConfirm, self._confirming(link), "publication")
            link.client.add_handler(schema.PublishError, self._refusing(link), "publication")
        try:
            for partition in range(self._partitions):
                await self._declare(links, partition, self._name, partition)
            found = await self._sequences(links)
        except BaseException:
            await self._links.drop()  # a publisher cannot be declared twice on one connection
            raise
        behind = {p: n for p, n in found.items() if n < self._stored.get(p, 0)}
        if behind:
            [partition, position] = min(behind.items(), key=lambda one: one[1])
            self._behind = (
                f"it has lost what it had confirmed of {self._source!r}: partition {partition} "
                f"went up to position {self._stored[partition]}, and to {position} now: publish "
                "again what comes after that"
            )
        self._stored = {p: max(n, self._stored.get(p, 0)) for p, n in found.items()}
        self._declared_on = links
        return links

    async def _declare(
        self, links: Mapping[str, Link], partition: int, name: str, number: int
    ) -> None:
        stream = self._place.stream(partition)
        link = links[stream]
        await link.ask(link.client.declare_publisher(stream, name, number))

    async def _sequences(self, links: Mapping[str, Link]) -> dict[int, int]:
        found = {}
        for partition in range(self._partitions):
            stream = self._place.stream(partition)
            found[partition] = await links[stream].sequence(stream, self._name)
        return found

    def _frames(
        self, encoded: Sequence[tuple[BusEvent, bytes]], links: Mapping[str, Link]
    ) -> dict[int, list[_Frame]]:
        """Return by partition what is sent one after the other."""
        found: dict[int, list[_Frame]] = {}
        sizes: dict[int, int] = {}
        for event, message in encoded:
            partition = partition_of(event.stream, self._partitions)
            most = links[self._place.stream(partition)].frame_max - _FRAME_OVERHEAD
            size = len(message) + _MESSAGE_OVERHEAD
            if size > most:
                raise ConfigurationError(
                    subject=self._place.name,
                    reason=f"event {event.position} of {event.source!r} has {len(message)} bytes, "
                    f"the broker takes about {most}: raise its stream.frame_max",
                )
            plain = event.type == WATERMARK
            frames = found.setdefault(partition, [])
            if not frames or frames[-1].plain != plain or sizes[partition] + size > most:
                frames.append(_Frame(plain, []))
                sizes[partition] = 0
            sizes[partition] += size
            if plain:
                self._last_plain_id += 1
            number = self._last_plain_id if plain else event.position
            frames[-1].messages.append(schema.Message(number, None, message))
        return found

    async def _send(self, frames: Mapping[int, _Frame]) -> None:
        """Send a frame to each of some partitions; return when all of it is confirmed."""
        links, waits = self._declared_on, []
        try:
            for partition, frame in frames.items():
                number = partition
                if frame.plain:
                    number += _PLAIN
                    if partition not in self._plain:
                        await self._declare(links, partition, "", number)
                        self._plain.add(partition)
                link = links[self._place.stream(partition)]
                confirms = self._waiting[link, number] = _Confirms(frame.ids)
                waits.append((link, confirms))
                sent = link.client.send_publish_frame(schema.Publish(number, frame.messages))
                await link.ask(sent, outcome="unknown")
            for link, confirms in waits:
                await link.wait_for(confirms.done)
        except BaseException:
            # What is under way may arrive yet. On another connection it cannot come after what is
            # published next, and leave that a hole: whoever goes on begins with what is stored.
            await self._links.drop()
            raise
        finally:
            self._waiting.clear()
        for partition, frame in frames.items():
            if not frame.plain:
                last = max(frame.ids)
                self._stored[partition] = max(last, self._stored.get(partition, 0))

    def _confirming(self, link: Link) -> Callable[[schema.PublishConfirm], None]:
        def confirmed(frame: schema.PublishConfirm) -> None:
            waiting = self._waiting.get((link, frame.publisher_id))
            if waiting is not None:
                waiting.confirm(frame.publishing_ids)

        return confirmed

    def _refusing(self, link: Link) -> Callable[[schema.PublishError], None]:
        def refused(frame: schema.PublishError) -> None:
            codes = sorted({error.response_code for error in frame.errors})
            link.lose(f"the broker has refused to store events (codes {codes})")

        return refused


def publisher_name(source: str, epoch: str) -> str:
    """Return the name of the publisher of a source and epoch: in at most 255 bytes of UTF-8."""
    name = f"{source}@{epoch}"
    if len(name.encode()) <= _NAME_BYTES_MAX:
        return name
    return f"{name[:40]}@{blake2b(name.encode(), digest_size=16).hexdigest()}"


__all__ = ["PARTITIONS_MAX", "Publication", "publisher_name"]
