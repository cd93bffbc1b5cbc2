"""The events that services store: the last ones, those after a position, and what comes."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

import msgspec

from headwater.eventstore import EVERYTHING, EventFilter, ReadableLog, StoredEvent
from headwater.eventstore.sharded import shard_of
from headwater.operations.stores import open_logs
from headwater.processing.sources.shards import close_iterator
from headwater.processing.sources.tokens import log_name


class Selection(msgspec.Struct, frozen=True):
    """Which events are meant.

    Attributes:
        stream: only those of one stream; empty: of all.
        filter: only those that match.
        after: those after this position (of a stream: after this version); None: the last ones.
        limit: at most so many of each log, or of the last ones altogether; None: any number.
    """

    stream: str = ""
    filter: EventFilter = EVERYTHING
    after: int | None = None
    limit: int | None = None

    def matches(self, event: StoredEvent) -> bool:
        """Whether an event is selected."""
        return (not self.stream or event.stream == self.stream) and self.filter.matches(
            event.type, event.tags
        )


class LoggedEvent(msgspec.Struct, frozen=True):
    """An event, and which log it is in: a service, or one of its shards (``orders/1``)."""

    log: str
    event: StoredEvent


class Logs:
    """The logs of some services as they were when they were opened, and what comes after."""

    def __init__(self, logs: Mapping[str, ReadableLog], heads: Mapping[str, int]) -> None:
        """Look at logs by name; ``heads`` are the positions up to which they are stored events."""
        self._logs = logs
        self._heads = heads

    async def stored(self, selection: Selection) -> AsyncIterator[LoggedEvent]:
        """Yield what was selected of the events stored so far.

        The last ones come in order of their time, over all logs; those after a position log by log.

        Raises:
            StoreUnavailable: a store is away.
        """
        if selection.after is None:
            for found in await self._last(selection):
                yield found
            return
        for name in self._logs:
            async for event in self._select(name, selection):
                yield LoggedEvent(name, event)

    async def _last(self, selection: Selection) -> list[LoggedEvent]:
        found = [
            (event.time, event.position, name, event)
            for name in self._logs
            async for event in self._select(name, selection)
        ]
        found.sort(key=lambda entry: entry[:3])
        left = found if selection.limit is None else found[max(0, len(found) - selection.limit) :]
        return [LoggedEvent(name, event) for _, _, name, event in left]

    async def _select(self, name: str, selection: Selection) -> AsyncIterator[StoredEvent]:
        """Yield what is selected up to the head: forwards, or backwards without a position."""
        store, head, left = self._logs[name], self._heads[name], selection.limit
        backwards = selection.after is None
        after = selection.after or 0
        if selection.stream:
            pages = store.read_stream(selection.stream, after=after, backwards=backwards)
        else:
            pages = store.read(
                filter=selection.filter, after=after, until=head, backwards=backwards, limit=left
            )
        try:
            async for page in pages:
                for event in page.events:
                    if left is not None and left <= 0:
                        return
                    if event.position <= head and selection.matches(event):
                        left = None if left is None else left - 1
                        yield event
        finally:
            await close_iterator(pages)

    def coming(self, selection: Selection) -> list[AsyncGenerator[list[LoggedEvent], None]]:
        """Return for each log what yields the selected events that are stored from now on."""
        return [self._coming(name, selection) for name in self._logs]

    async def _coming(
        self, name: str, selection: Selection
    ) -> AsyncGenerator[list[LoggedEvent], None]:
        pages = self._logs[name].follow(filter=selection.filter, after=self._heads[name])
        async for page in pages:
            found = [LoggedEvent(name, e) for e in page.events if selection.matches(e)]
            if found:
                yield found


@contextlib.asynccontextmanager
async def open_events(
    stores: Mapping[str, Sequence[str]], *, stream: str = ""
) -> AsyncIterator[Logs]:
    """Open the logs of services, by the URLs of their stores; of one stream only its log.

    Raises:
        ConfigurationError: a store does not exist, or a URL names no known engine.
        StoreUnavailable, StoreCorrupt, SchemaTooNew, ShardMismatch: one cannot be opened.
    """
    async with contextlib.AsyncExitStack() as resources:
        opened: dict[str, ReadableLog] = {}
        for name, urls in stores.items():
            logs = await resources.enter_async_context(
                open_logs(urls, subject=f"event store of {name}")
            )
            opened |= {
                log_name(name, shard): log
                for shard, log in enumerate(logs)
                if not stream or shard == shard_of(stream, len(logs))
            }
        yield Logs(opened, {name: await log.head() for name, log in opened.items()})
