"""What records by itself: an event store, a command bus and a query bus that are used as usual."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from headwater.dispatch import CommandBus, CommandMessage, CommandResult, QueryBus
from headwater.dispatch.local import LocalCommandBus
from headwater.eventstore import (
    EVERYTHING,
    AppendCondition,
    Appended,
    EventFilter,
    EventStore,
    Idempotency,
    Page,
    Pipeline,
    Shard,
    Snapshot,
    StoredEvent,
    StoredKey,
    StreamWrite,
)
from headwater.messages import (
    Command,
    ConsistencyToken,
    Metadata,
    Query,
    current,
    handling,
    message_type,
    new_id,
)
from headwater.modelling import Aggregate, DecisionModel
from headwater.modelling.state import aggregate_type, model_type
from headwater.testing.history.calls import (
    Answer,
    Append,
    Ask,
    Done,
    Found,
    Head,
    Lookup,
    Number,
    Pages,
    Read,
    Send,
    Stored,
    Version,
    Write,
    canonical,
    combined,
    digest_of,
)
from headwater.testing.history.recorder import History

R = TypeVar("R")


class RecordedStore:
    """An `EventStore` that records its appends and reads; all else is passed through.

    Over a `ShardedEventStore` it is a `StreamStore`, whose logs record, too.
    """

    def __init__(
        self,
        history: History,
        store: Any,
        *,
        session: str = "",
        source: str = "",
        shard: int = 0,
    ) -> None:
        """Record into a history.

        Args:
            history: where to.
            store: an event store, or a sharded one.
            session: whose calls they are.
            source: the name of the store in the history.
            shard: which log of a sharded store it is.
        """
        self._history = history
        self._store = store
        self._about: dict[str, Any] = {"session": session, "source": source, "shard": shard}
        logs: Sequence[EventStore] = store.shards
        self._shards: tuple[EventStore, ...] = (self,)
        if len(logs) > 1:
            self._shards = tuple(
                RecordedStore(history, log, session=session, source=source, shard=number)
                for number, log in enumerate(logs)
            )

    @property
    def epoch(self) -> str:
        """See `StreamStore.epoch`."""
        epoch: str = self._store.epoch
        return epoch

    @property
    def shards(self) -> Sequence[EventStore]:
        """See `StreamStore.shards`."""
        return self._shards

    def shard_of(self, stream: str) -> int:
        """See `StreamStore.shard_of`."""
        shard: int = self._store.shard_of(stream)
        return shard

    async def append(
        self,
        writes: Sequence[StreamWrite],
        *,
        condition: AppendCondition | None = None,
        idempotency: Idempotency | None = None,
        pipeline: Pipeline | None = None,
    ) -> Appended:
        """See `StreamStore.append`."""
        key, fingerprint = (idempotency.key, idempotency.fingerprint) if idempotency else ("", "")
        asked = Append(
            tuple([_write(write) for write in writes]),
            key,
            fingerprint,
            condition,
            id(pipeline) if pipeline is not None else 0,
        )
        with self._history.call(asked, **self._about) as call:
            appended: Appended = await self._store.append(
                writes, condition=condition, idempotency=idempotency, pipeline=pipeline
            )
            call.answer(_stored(appended))
        return appended

    async def outcome(self, key: str) -> tuple[Appended, str] | None:
        """See `StreamStore.outcome`."""
        with self._history.call(Lookup(key), **self._about) as call:
            found: tuple[Appended, str] | None = await self._store.outcome(key)
            call.answer(Found(None if found is None else _stored(found[0])))
        return found

    def read(
        self,
        *,
        filter: EventFilter = EVERYTHING,
        after: int = 0,
        until: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
        page_size: int = 1000,
    ) -> AsyncIterator[Page]:
        """See `EventStore.read`."""
        numbers: Any = {"after": after, "until": until, "backwards": backwards, "limit": limit}
        pages = self._store.read(filter=filter, page_size=page_size, **numbers)
        return self._pages(Read(None, filter if filter.items else None, **numbers), pages)

    def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        until: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
        page_size: int = 1000,
    ) -> AsyncIterator[Page]:
        """See `StreamStore.read_stream`."""
        numbers: Any = {"after": after, "until": until, "backwards": backwards, "limit": limit}
        pages = self._store.read_stream(stream, page_size=page_size, **numbers)
        return self._pages(Read(stream, **numbers), pages)

    async def follow(
        self, *, filter: EventFilter = EVERYTHING, after: int = 0, page_size: int = 1000
    ) -> AsyncIterator[Page]:
        """See `EventStore.follow`. Each page is a read of its own."""
        pages = self._store.follow(filter=filter, after=after, page_size=page_size)
        chosen = filter if filter.items else None
        try:
            while True:
                asked = Read(None, chosen, after, live=True)
                with self._history.call(asked, **self._about) as call:
                    page = await anext(pages)
                    call.answer(_delivered(page.events, page.through, complete=False))
                after = page.through
                yield page
        finally:
            await pages.aclose()

    async def version(self, stream: str) -> int:
        """See `StreamStore.version`."""
        with self._history.call(Version(stream), **self._about) as call:
            version: int = await self._store.version(stream)
            call.answer(Number(version))
        return version

    async def head(self) -> int:
        """See `EventStore.head`."""
        with self._history.call(Head(), **self._about) as call:
            head: int = await self._store.head()
            call.answer(Number(head))
        return head

    async def position_at(self, time: int) -> int:
        """See `EventStore.position_at`."""
        position: int = await self._store.position_at(time)
        return position

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """See `StreamStore.save_snapshot`."""
        await self._store.save_snapshot(snapshot)

    async def load_snapshot(self, stream: str) -> Snapshot | None:
        """See `StreamStore.load_snapshot`."""
        snapshot: Snapshot | None = await self._store.load_snapshot(stream)
        return snapshot

    def read_snapshots(
        self, prefix: str = "", *, page_size: int = 100
    ) -> AsyncIterator[tuple[Snapshot, ...]]:
        """See `StreamStore.read_snapshots`."""
        pages: AsyncIterator[tuple[Snapshot, ...]]
        pages = self._store.read_snapshots(prefix, page_size=page_size)
        return pages

    async def drop_snapshot(self, stream: str) -> bool:
        """See `StreamStore.drop_snapshot`."""
        dropped: bool = await self._store.drop_snapshot(stream)
        return dropped

    async def drop_snapshots(self, prefix: str = "") -> int:
        """See `StreamStore.drop_snapshots`."""
        count: int = await self._store.drop_snapshots(prefix)
        return count

    async def forget_keys(self, age_s: float) -> int:
        """See `StreamStore.forget_keys`; what is forgotten then may not be judged any more."""
        count: int = await self._store.forget_keys(age_s)
        return count

    async def retag(self, tags: Mapping[int, Sequence[str]]) -> int:
        """See `EventStore.retag`; tags are nobody's call."""
        count: int = await self._store.retag(tags)
        return count

    def read_keys(
        self, *, since: int = 0, page_size: int = 1000
    ) -> AsyncIterator[tuple[StoredKey, ...]]:
        """See `EventStore.read_keys`."""
        keys: AsyncIterator[tuple[StoredKey, ...]]
        keys = self._store.read_keys(since=since, page_size=page_size)
        return keys

    async def import_events(
        self, events: Sequence[StoredEvent], *, epoch: str, keys: Sequence[StoredKey] = ()
    ) -> None:
        """See `EventStore.import_events`; what is imported is nobody's call."""
        await self._store.import_events(events, epoch=epoch, keys=keys)

    async def probe(self) -> None:
        """See `EventStore.probe`; it changes nothing that is judged."""
        await self._store.probe()

    async def shard(self) -> Shard | None:
        """See `EventStore.shard`."""
        shard: Shard | None = await self._store.shard()
        return shard

    async def settle_shard(self, shard: Shard) -> Shard | None:
        """See `EventStore.settle_shard`."""
        settled: Shard | None = await self._store.settle_shard(shard)
        return settled

    async def owner(self) -> str:
        """See `EventStore.owner`."""
        owner: str = await self._store.owner()
        return owner

    async def settle_owner(self, service: str) -> str:
        """See `EventStore.settle_owner`."""
        owner: str = await self._store.settle_owner(service)
        return owner

    async def close(self) -> None:
        """See `StreamStore.close`."""
        await self._store.close()

    async def _pages(self, asked: Read, pages: AsyncIterator[Page]) -> AsyncIterator[Page]:
        events: list[StoredEvent] = []
        through = asked.after
        with self._history.call(asked, **self._about) as call:
            try:
                async for page in pages:
                    events.extend(page.events)
                    through = page.through
                    yield page
            except GeneratorExit:  # the caller has enough
                call.answer(_delivered(events, through, complete=False))
                raise
            full = asked.limit is not None and len(events) >= asked.limit
            call.answer(_delivered(events, through, complete=not full))


def _write(write: StreamWrite) -> Write:
    return Write(write.stream, tuple([digest_of(event) for event in write.events]), write.expected)


def _stored(told: Appended) -> Stored:
    return Stored(told.first, told.last, told.time, told.versions, told.duplicate)


def _delivered(events: Sequence[StoredEvent], through: int, *, complete: bool) -> Pages:
    rows = [(e.position, e.version, e.time, digest_of(e), e.stream) for e in events]
    positions = tuple([event.position for event in events])
    return Pages(positions, combined(rows), through, complete)


class RecordedCommands:
    """A command bus that records what it is asked and what it answers."""

    def __init__(
        self,
        history: History,
        bus: CommandBus,
        *,
        aggregates: Iterable[type[Aggregate] | type[DecisionModel]] = (),
        session: str = "",
        source: str = "",
    ) -> None:
        """Record into a history.

        Args:
            history: where to.
            bus: where commands are sent.
            aggregates: whose commands they are, from which their streams are known.
            session: whose calls they are.
            source: the name of the service in the history.
        """
        self._history = history
        self._bus = bus
        self._session = session
        self._source = source
        kinds = [
            aggregate_type(each) if issubclass(each, Aggregate) else model_type(each)
            for each in aggregates
        ]
        self._kinds = {command: kind for kind in kinds for command in kind.commands}

    async def send(
        self,
        command: Command,
        *,
        idempotency_key: str = "",
        expected_version: int | None = None,
        keep_refusal: bool = False,
    ) -> CommandResult:
        """See `CommandBus.send`. It is sent in a conversation of its own."""
        around = current()
        own = new_id()
        mine = Metadata(id=own, correlation_id=own)
        if around is not None:
            told = around.metadata
            mine = msgspec.structs.replace(told, id=own, correlation_id=own)
        with (
            self._called(command, own, idempotency_key, expected_version) as call,
            handling(mine),
        ):
            result = await self._bus.send(
                command,
                idempotency_key=idempotency_key,
                expected_version=expected_version,
                keep_refusal=keep_refusal,
            )
            call.answer(_done(result))
        return result

    async def dispatch(self, message: CommandMessage) -> CommandResult:
        """See `LocalCommandBus.dispatch`; the message must have a correlation id of its own."""
        bus = self._bus
        assert isinstance(bus, LocalCommandBus)
        about = message.metadata
        conversation = about.correlation_id or about.id
        key, expected = message.idempotency_key, message.expected_version
        with self._called(message.command, conversation, key, expected) as call:
            result = await bus.dispatch(message)
            call.answer(_done(result))
        return result

    def _called(self, command: Command, conversation: str, key: str, expected: int | None) -> Any:
        message = message_type(type(command))
        kind = self._kinds.get(type(command))
        stream = kind.stream(message.target_of(command)) if kind else ""
        asked = Send(stream, message.name, _content(command), conversation, key, expected)
        return self._history.call(asked, session=self._session, source=self._source)


class RecordedQueries:
    """A query bus that records what it is asked and what it answers."""

    def __init__(
        self, history: History, bus: QueryBus, *, session: str = "", source: str = ""
    ) -> None:
        """Record into a history; arguments as for `RecordedCommands`."""
        self._history = history
        self._bus = bus
        self._session = session
        self._source = source

    async def ask(self, query: Query[R], *, token: ConsistencyToken | str | None = None) -> R:
        """See `QueryBus.ask`."""
        name, place = message_type(type(query)).name, place_of(token, self._source)
        asked = Ask(name, _content(query), *place)
        with self._history.call(asked, session=self._session, source=self._source) as call:
            answer = await self._bus.ask(query, token=token)
            call.answer(Answer(_content(answer)))
        return answer


def place_of(token: ConsistencyToken | str | None, source: str = "") -> tuple[int, int]:
    """Return the position that a token asks for of a source, or of its only one, and its shard.

    The position is 0 without a token, and for one that asks for several shards.
    """
    if isinstance(token, str):
        token = ConsistencyToken.decode(token) if token else None
    sources = token.sources if token is not None else {}
    chosen = [sources[source]] if source in sources else list(sources.values())
    places = [(position, shard) for state in chosen for shard, position in state.shards.items()]
    return places[0] if len(places) == 1 else (0, 0)


def _done(result: CommandResult) -> Done:
    position, _ = place_of(result.token)
    return Done(result.version, position, result.duplicate)


def _content(value: Any) -> msgspec.Raw:
    try:
        return canonical(value)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return canonical(repr(value))  # whoever is asked refuses it
