"""The repository: carries out commands on aggregates, and shows any past state of them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from headwater.dispatch import CommandMessage, CommandResult
from headwater.dispatch.api import KeyedHandler
from headwater.errors import (
    AggregateExists,
    AggregateNotFound,
    ConcurrencyConflict,
    ConditionFailed,
    Conflict,
    HeadwaterError,
    PipelineBroken,
)
from headwater.eventstore import (
    AppendCondition,
    Appended,
    EventStore,
    NewEvent,
    StreamStore,
    StreamWrite,
)
from headwater.messages import Codec, Command, ConsistencyToken, Event
from headwater.messages.sealing import opened_events
from headwater.modelling.declarations import CommandHandler, events_of
from headwater.modelling.encoding import (
    Admission,
    Admit,
    first_outcome,
    idempotency_of,
    sealed_events,
    stored_and_read,
)
from headwater.modelling.live_aggregates import Kept, LiveAggregate, LiveAggregates, Turns
from headwater.modelling.models import check_shardable, load_models
from headwater.modelling.snapshots import Snapshots
from headwater.modelling.state import Aggregate, StateType, aggregate_type, check_id
from headwater.modelling.stored_state import NotStorable

A = TypeVar("A", bound=Aggregate)

_SPOILED_MAX = 3  # how often a command goes on in a pipeline that others spoil


class StateAt(msgspec.Struct, Generic[A], frozen=True):
    """An aggregate's state as it was: after ``version`` events, the last at ``position``.

    ``time`` is when that last event was recorded, microseconds UTC.
    """

    state: A
    version: int
    position: int
    time: int


class _StaleError(Exception):
    """A decision was made on something that is not, or will never be, what is stored.

    ``conflict`` is what others stored; None when only something that the decision was built on
    came to nothing, which is no fault of the command and nobody's success.
    """

    def __init__(self, live: LiveAggregate, conflict: Conflict | None = None) -> None:
        super().__init__(str(conflict))
        self.live = live
        self.conflict = conflict


class Repository(Generic[A]):
    """Decides commands of one aggregate class and stores what was decided.

    Within a process the commands of one aggregate form a pipeline: the next is decided on the
    state that the one before leaves, though that is not on disk yet, and all join the next group
    commit; none is acknowledged before it is durable. Between processes writing is optimistic:
    whoever finds the stream moved on reads what is new and decides again. A refusal is only
    passed on when the state it was decided on proves to be what is stored.
    """

    def __init__(
        self,
        cls: type[A],
        store: StreamStore,
        *,
        source: str,
        cache_size: int = 10_000,
        attempts: int = 25,
        clock: Callable[[], float] = time.perf_counter,
        on_snapshot_left_out: Callable[[str], None] = lambda _: None,
        admit: Admit | None = None,
        codec: Codec | None = None,
    ) -> None:
        """Serve one aggregate class.

        Args:
            cls: the aggregate class.
            store: where its events are.
            source: the name of the service, for consistency tokens.
            cache_size: how many aggregates stay in memory.
            attempts: how often a command is decided when others store something each time.
            clock: seconds, monotonic; measures how long loading takes.
            on_snapshot_left_out: is told the aggregate's name when a state cannot be stored, or
                its snapshot not be saved or read; commands go on without.
            admit: checks each class of events before the first is stored; raises to refuse.
            codec: that of the service, through which contents are stored.

        Raises:
            ConfigurationError: it decides by decision models, and the store is sharded.
        """
        if len(store.shards) > 1:
            check_shardable(cls)
        self.type: StateType = aggregate_type(cls)
        self._cls = cls
        self._store = store
        self._source = source
        self._attempts = attempts
        self._clock = clock
        self._admission = Admission(admit)
        self._codec = codec
        self._live = LiveAggregates(cache_size)
        self._turns = Turns()
        self._loading: dict[str, asyncio.Task[LiveAggregate]] = {}
        self.snapshots = Snapshots(self.type, store, on_left_out=on_snapshot_left_out, codec=codec)

    def handlers(self) -> Mapping[type[Command], KeyedHandler]:
        """Return what handles each command type, for the command bus."""
        return {
            command: KeyedHandler(partial(self._handle, handler), partial(self._look_up, handler))
            for command, handler in self.type.commands.items()
        }

    async def _handle(self, handler: CommandHandler, message: CommandMessage) -> CommandResult:
        id = handler.command.target_of(message.command)
        attempt, spoiled = 1, 0
        stale: _StaleError | None = None
        while True:
            try:
                if spoiled < _SPOILED_MAX and id not in self._turns.taken:
                    return await self._attempt(handler, message, id, stale)
                async with self._turns.take(id):
                    return await self._attempt(handler, message, id, stale)
            except _StaleError as error:
                stale = error
            if stale.conflict is None:  # each time something else has ended: this goes on
                spoiled += stale.live.spoiled
                if message.idempotency_key and stale.live.repeated:
                    first = await self._look_up(handler, message)
                    if first is not None:
                        return first
                continue
            if attempt >= self._attempts:
                raise stale.conflict from None
            attempt += 1
            if attempt > 3:  # others keep winning: give them room
                await asyncio.sleep(0.001 * attempt)

    async def _look_up(
        self,
        handler: CommandHandler,
        message: CommandMessage,
        *,
        settled: bool = False,
        refusal: HeadwaterError | None = None,
    ) -> CommandResult | None:
        id = handler.command.target_of(message.command)
        stream = self.type.stream(id)
        first = await first_outcome(
            self._log_of(id), message, stream, settled=settled, refusal=refusal
        )
        return None if first is None else self._result(id, stream, first)

    async def _attempt(
        self, handler: CommandHandler, message: CommandMessage, id: str, stale: _StaleError | None
    ) -> CommandResult:
        """Decide and store once; ``stale`` is what the attempt before came to.

        Raises:
            _StaleError: it was decided on a state that proved not to be the stored one.
        """
        command = message.command
        live = self._live.get(id) or await self._load(id, stale)
        models: tuple[Any, ...] = ()
        condition: AppendCondition | None = None
        if handler.models:
            models, condition = await load_models(
                self._store.shards[0], handler.models, command, codec=self._codec
            )
            live = self._live.get(id) or await self._load(id, stale)
        seen = live.version
        if live.contended and seen == live.durable and live.pipeline.broken is None:
            self._keep(live)
        try:
            if message.expected_version is not None:
                self._check_version(live, message.expected_version, id)
            decided = self._decide(handler, live, command, id, models)
            self._admission.check(decided)
            new, events = stored_and_read(decided, message.metadata)
            stored = sealed_events(self._codec, new, self.type.stream(id))
        except Exception:  # also a fault of the handler: it counts in a state that is stored
            await self._check_current(live, seen, id)
            raise
        if not events:
            return await self._confirm_nothing(live, seen, message, id)
        return await self._store_events(live, stored, events, message, id, condition=condition)

    def _check_version(self, live: LiveAggregate, expected: int, id: str) -> None:
        if expected != live.version:
            stream = self.type.stream(id)
            raise ConcurrencyConflict(stream=stream, expected=expected, actual=live.version)

    def _decide(
        self,
        handler: CommandHandler,
        live: LiveAggregate,
        command: Command,
        id: str,
        models: tuple[Any, ...],
    ) -> tuple[Event, ...]:
        exists = live.version > 0
        if handler.creates is True:
            if exists:
                raise AggregateExists(aggregate=self.type.name, id=id)
        elif not exists and handler.creates is False:
            raise AggregateNotFound(aggregate=self.type.name, id=id)
        return events_of(handler.function(live.state, command, *models))

    async def _store_events(
        self,
        live: LiveAggregate,
        new: Sequence[NewEvent],
        events: Sequence[Event],
        message: CommandMessage,
        id: str,
        *,
        condition: AppendCondition | None,
    ) -> CommandResult:
        stream = self.type.stream(id)
        write = StreamWrite(stream, new, live.version)
        try:
            for event in events:
                self.type.apply(live.state, event)
        except BaseException as error:
            # Half-changed: whoever has got hold of it must not decide on it, either.
            live.pipeline.broken = PipelineBroken(cause=repr(error))
            self._live.discard(id, live)
            raise
        live.version = version = live.version + len(events)
        every = self._cls.snapshot_every
        due = every and live.version - live.snapshot_version >= every
        snapshot = self._snapshot(live) if due else None
        live.in_flight += 1
        landed = 0
        try:
            appended = await self._store.append(
                (write,),
                condition=condition,
                idempotency=idempotency_of(message),
                pipeline=live.pipeline,
            )
            if not appended.duplicate:
                landed = version
        except PipelineBroken as broken:
            raise _StaleError(live) from broken
        except (ConcurrencyConflict, ConditionFailed) as conflict:
            raise _StaleError(live, conflict) from conflict
        finally:
            live.landed(landed)
            self._live.trim()
            if live.pipeline.broken is not None:
                self._live.discard(id, live)
        if snapshot is not None and landed:
            self.snapshots.save(stream, version, snapshot)
        return self._result(id, stream, appended)

    def _keep(self, live: LiveAggregate) -> None:
        """Keep an aggregate's durable state; if it has no stored form, it is loaded instead."""
        form = self.type.form
        if form is None:
            live.contended = 0
        elif live.kept is None or live.kept.version < live.version:
            try:
                live.keep(form.encode(live.state))
            except NotStorable:
                live.contended = 0  # to find that out again with each command would cost too much

    async def _confirm_nothing(
        self, live: LiveAggregate, seen: int, message: CommandMessage, id: str
    ) -> CommandResult:
        """Answer a command that changes nothing, if the state it saw is the stored one."""
        await self._check_current(live, seen, id)
        stream = self.type.stream(id)
        idempotency = idempotency_of(message)
        if idempotency is not None:
            unchanged = StreamWrite(stream, ())  # keeps the version for duplicates
            appended = await self._store.append((unchanged,), idempotency=idempotency)
            return self._result(id, stream, appended)
        head = await self._log_of(id).head()
        return CommandResult(id, seen, self._token(stream, head))

    async def _check_current(self, live: LiveAggregate, seen: int, id: str) -> None:
        """Check that the state at version ``seen`` was the newest when it was decided on.

        Raises:
            _StaleError: it was not.
        """
        if not await live.settled(seen):
            self._live.discard(id, live)
            raise _StaleError(live)
        stream = self.type.stream(id)
        stored = await self._store.version(stream)
        # The stream went on: fine if that was this pipeline, which shows when it has landed.
        if stored != seen and not (stored <= live.version and await live.settled(stored)):
            self._live.discard(id, live)
            conflict = ConcurrencyConflict(stream=stream, expected=seen, actual=stored)
            raise _StaleError(live, conflict)

    def _result(self, id: str, stream: str, appended: Appended) -> CommandResult:
        version = appended.versions[0] if appended.versions else 0
        return CommandResult(id, version, self._token(stream, appended.last), appended.duplicate)

    def _token(self, stream: str, position: int) -> str:
        shard = self._store.shard_of(stream)
        return ConsistencyToken.text_at(self._source, self._store.epoch, position, shard=shard)

    def _log_of(self, id: str) -> EventStore:
        return self._store.shards[self._store.shard_of(self.type.stream(id))]

    async def _load(self, id: str, stale: _StaleError | None) -> LiveAggregate:
        """Load an aggregate once, however many commands wait for it.

        Raises:
            InvalidInput: there can be no aggregate of such an id.
        """
        check_id(self.type.name, id)
        task = self._loading.get(id)
        if task is None:
            task = asyncio.create_task(self._load_live(id, stale))
            self._loading[id] = task
        return await asyncio.shield(task)

    async def _load_live(self, id: str, stale: _StaleError | None) -> LiveAggregate:
        try:
            return await self._loaded(id, stale)
        finally:  # at once: who finds this one broken loads another
            del self._loading[id]

    async def _loaded(self, id: str, stale: _StaleError | None) -> LiveAggregate:
        began = self._clock()
        kept = stale.live.kept_despite(stale.conflict) if stale else None
        state, version, snapshot_version = await self._restore(id, until=None, kept=kept)
        took_ms = (self._clock() - began) * 1000
        live = LiveAggregate(state, version, snapshot_version, contended=stale is not None)
        self._live.put(id, live)
        allowed_ms = self._cls.snapshot_load_ms
        if allowed_ms and took_ms > allowed_ms and version > snapshot_version:
            snapshot = self._snapshot(live)
            if snapshot is not None:
                self.snapshots.save(self.type.stream(id), version, snapshot)
        return live

    async def _restore(
        self, id: str, *, until: int | None, kept: Kept | None = None
    ) -> tuple[A, int, int]:
        """Return the state from what was kept or a snapshot on, its version, and the snapshot's."""
        stream = self.type.stream(id)
        if kept is not None and self.type.form is not None:
            state = self.type.form.decode(kept.data)
            version = await self._replay(state, stream, kept.version)
            return state, version, kept.snapshot_version
        found = await self.snapshots.load(stream, until=until)
        state, version = found or (self._cls(id=id), 0)
        return state, await self._replay(state, stream, version, until=until), version

    async def _replay(
        self, state: A, stream: str, version: int, *, until: int | None = None
    ) -> int:
        """Change a state by the events after its version, and return the version it has then."""
        async for page in self._store.read_stream(stream, after=version, until=until):
            self.type.replay(state, opened_events(self._codec, page.events))
            version = page.events[-1].version if page.events else version
        return version

    def _snapshot(self, live: LiveAggregate) -> bytes | None:
        """Return the state as it is now in stored form, to be saved when it is durable.

        One that has none is due again only after as many events: to find that out costs, too.
        """
        live.snapshot_version = live.version
        return self.snapshots.encode(live.state)

    async def state(
        self,
        id: str,
        *,
        at_version: int | None = None,
        at_position: int | None = None,
        at_time: int | None = None,
    ) -> StateAt[A]:
        """Return the state as it is, or as it was at a version, a position or a time (µs UTC).

        In a sharded store a position is one of the shard that the aggregate is in.

        Raises:
            AggregateNotFound: there was no event yet.
        """
        until = at_version
        if at_time is not None:
            at_position = await self._log_of(id).position_at(at_time)
        if at_position is not None:
            until = await self._version_at(id, at_position)
        state, version, _ = await self._restore(id, until=until)
        if version == 0:
            raise AggregateNotFound(aggregate=self.type.name, id=id)
        stream = self.type.stream(id)
        position = time = 0
        async for page in self._store.read_stream(stream, after=version - 1, until=version):
            for event in page.events:
                position, time = event.position, event.time
        return StateAt(state, version, position, time)

    async def _version_at(self, id: str, position: int) -> int:
        version = 0
        async for page in self._store.read_stream(self.type.stream(id)):
            for event in page.events:
                if event.position > position:
                    return version
                version = event.version
        return version

    async def close(self) -> None:
        """Finish the snapshots that are being saved."""
        await self.snapshots.close()
