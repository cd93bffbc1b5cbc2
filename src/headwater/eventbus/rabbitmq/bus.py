"""An event bus on RabbitMQ streams: one stream for each partition."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Self

from rstream.constants import OffsetType
from rstream.exceptions import PreconditionFailed, StreamAlreadyExists, StreamDoesNotExist

from headwater.errors import ConfigurationError, StoreUnavailable
from headwater.eventbus.api import BusEvent, Delivery
from headwater.eventbus.checks import check_count, check_subscription
from headwater.eventbus.rabbitmq.link import REFUSED, Link, Links, closed
from headwater.eventbus.rabbitmq.notes import Notes, store
from headwater.eventbus.rabbitmq.publishing import PARTITIONS_MAX, Publication
from headwater.eventbus.rabbitmq.reading import HEADER, Reader, deliveries, offset_of
from headwater.eventbus.rabbitmq.settings import Place
from headwater.eventbus.retention import Retention
from headwater.eventbus.types import EventType

_MAKER = "headwater"  # the publisher of the first message of each stream


class RabbitMQEventBus:
    """An `EventBus` on a broker; use `open`.

    It keeps everything: a stream can be cut by nothing but age and size, whoever has read it, and
    that only the broker's own policies do.
    """

    ordered = False

    def __init__(self, place: Place, partitions: int, notes: Notes) -> None:
        """Take over a bus that was made; use `open`."""
        self._place = place
        self._partitions = partitions
        self._notes = notes
        self._streams = {n: place.stream(n) for n in range(partitions)}
        self._links = Links(place, list(self._streams.values()))
        self._publications: dict[tuple[str, str], Publication] = {}
        self._closed = False

    @classmethod
    async def open(cls, url: str, *, partitions: int = 4) -> Self:
        """Open the bus that a URL names, which is made if there is none.

        Args:
            url: ``rabbitmq-stream://user:password@host:5552/vhost?name=bank``.
            partitions: how many; stored when the bus is made.

        Raises:
            ConfigurationError: the URL is wrong, the broker does not let us in, or the bus has
                another number of partitions.
            StoreUnavailable: the broker cannot be reached.
        """
        check_count(partitions, bus="in RabbitMQ")
        place = Place.parse(url)
        if partitions > PARTITIONS_MAX:
            reason = (
                f"{partitions} partitions were asked for, at most {PARTITIONS_MAX} are possible"
            )
            raise ConfigurationError(subject=f"event bus {place.name}", reason=reason)
        notes = Notes(place)
        try:
            link = await Link.connect(place)
            try:
                await _make(link, place, notes, partitions)
            finally:
                await link.close()
        except StoreUnavailable as error:
            await notes.close()
            if isinstance(error.__cause__, REFUSED):
                reason = f"{error.reason}: correct user, password and virtual host in the URL"
                raise ConfigurationError(subject=place.name, reason=reason) from error
            raise
        except BaseException:
            await notes.close()
            raise
        return cls(place, partitions, notes)

    @property
    def partitions(self) -> int:
        """See `EventBus.partitions`."""
        return self._partitions

    async def publish(self, events: Sequence[BusEvent]) -> None:
        """See `EventBus.publish`.

        Raises:
            ConfigurationError: an event is larger than the broker accepts; nothing was published.
        """
        self._check_open()
        by_origin: dict[tuple[str, str], list[BusEvent]] = {}
        for event in events:
            by_origin.setdefault((event.source, event.epoch), []).append(event)
        for (source, epoch), group in by_origin.items():
            await self._publication(source, epoch).publish(group)

    async def stored(self, source: str, epoch: str) -> dict[int, int]:
        """See `EventBus.stored`."""
        self._check_open()
        return await self._publication(source, epoch).stored()

    async def subscribe(
        self, *, after: Mapping[int, int], page_size: int = 1000
    ) -> AsyncIterator[Sequence[Delivery]]:
        """See `EventBus.subscribe`."""
        check_subscription(after, page_size, partitions=self._partitions)
        self._check_open()
        streams = {partition: self._streams[partition] for partition in after}
        reader = Reader(self._place, self._links, streams)
        try:
            await reader.start({p: offset + 2 for p, offset in after.items()})
            while True:
                page = deliveries(await reader.page(page_size))
                self._check_open()
                if page:
                    yield page
        finally:
            await reader.close()

    async def announce(
        self, source: str, types: Sequence[EventType]
    ) -> list[tuple[EventType, EventType]]:
        """See `EventBus.announce`."""
        self._check_open()
        return await self._notes.announce(source, types)

    async def begin(self) -> dict[int, int]:
        """See `EventBus.begin`."""
        return {p: max(0, offset_of(first)) for p, (first, _) in (await self._edges(first=True))}

    async def end(self) -> dict[int, int]:
        """See `EventBus.end`."""
        return {p: offset_of(last) for p, (_, last) in (await self._edges(first=False))}

    async def note_reader(self, reader: str, offsets: Mapping[int, int]) -> None:  # noqa: ARG002
        """See `EventBus.note_reader`; nothing is forgotten, so there is nothing to keep."""
        self._check_open()

    async def forget(self, retention: Retention) -> int:  # noqa: ARG002
        """See `EventBus.forget`; nothing is, see `EventBusEngine.forgets`."""
        self._check_open()
        return 0

    async def close(self) -> None:
        """See `EventBus.close`."""
        self._closed = True
        await asyncio.gather(
            self._links.close(),
            self._notes.close(),
            *(publication.close() for publication in self._publications.values()),
        )

    def _publication(self, source: str, epoch: str) -> Publication:
        found = self._publications.get((source, epoch))
        if found is None:
            found = Publication(self._place, self._partitions, source=source, epoch=epoch)
            self._publications[source, epoch] = found
        return found

    async def _edges(self, *, first: bool) -> list[tuple[int, tuple[int, int]]]:
        """Return for each partition the first and the last offset of its first or last chunk."""
        self._check_open()
        links = await self._links.get()
        which = OffsetType.FIRST if first else OffsetType.LAST
        chunks = await asyncio.gather(
            *(links[stream].chunk_at(stream, which) for stream in self._streams.values())
        )
        edges = [(c.chunk_first_offset, c.chunk_first_offset + c.num_records - 1) for c in chunks]
        return list(enumerate(edges))

    def _check_open(self) -> None:
        if self._closed:
            raise closed(self._place)


async def _make(link: Link, place: Place, notes: Notes, partitions: int) -> None:
    """Make what is missing of a bus; two who do it at once agree."""
    await _make_stream(link, place, place.notes)
    known = await notes.know()
    if not known.partitions:
        known = await notes.made(partitions)
    if known.partitions != partitions:
        raise ConfigurationError(
            subject=f"event bus {place.name}",
            reason=f"it was made with {known.partitions} partitions, {partitions} were asked for: "
            f"set {known.partitions}, or use another name",
        )
    streams = map(place.stream, range(partitions))
    if known.ready:
        for stream in streams:
            await _find_stream(link, place, stream)
    else:
        for stream in streams:
            await _make_stream(link, place, stream)
        await notes.ready()


async def _make_stream(link: Link, place: Place, stream: str) -> None:
    """Make a stream if it is missing; its first message is ours, and stored once."""
    try:
        await link.ask(link.client.create_stream(stream))
    except StoreUnavailable as error:
        if not isinstance(error.__cause__, (StreamAlreadyExists, PreconditionFailed)):
            raise
    await store(link, stream, HEADER, name=_MAKER)
    first = await link.chunk_at(stream, OffsetType.FIRST)
    if first.chunk_first_offset == 0 and first.get_messages()[0] != HEADER:
        reason = f"stream {stream!r} is there already, and of another program: use another name"
        raise ConfigurationError(subject=f"event bus {place.name}", reason=reason)


async def _find_stream(link: Link, place: Place, stream: str) -> None:
    try:
        await link.leader_of(stream)
    except StoreUnavailable as error:
        if not isinstance(error.__cause__, StreamDoesNotExist):
            raise
        reason = f"stream {stream!r} was deleted: bring it back, or delete the others of the bus"
        raise ConfigurationError(subject=f"event bus {place.name}", reason=reason) from error


__all__ = ["RabbitMQEventBus"]
