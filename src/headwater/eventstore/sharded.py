"""One store spread over several logs, each stream in one of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from hashlib import blake2b
from typing import Self

import msgspec

from headwater.errors import HeadwaterError, InvalidInput, ShardMismatch
from headwater.eventstore.api import (
    WHOLE,
    AppendCondition,
    Appended,
    EventStore,
    Idempotency,
    Page,
    Pipeline,
    ReadableLog,
    Shard,
    Snapshot,
    StreamWrite,
)

_ORDER = "give the URLs of all shards, in the order in which the store was made"


def shard_of(stream: str, count: int) -> int:
    """Return the shard of a stream: BLAKE2b, 64 bits, modulo the number; the same for ever.

    It is another hash than the one that divides segments and partitions: with the same one, or a
    CRC-32 of anything else, all streams of a shard could fall into few of the segments.
    """
    digest = blake2b(stream.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % count


class ShardedEventStore:
    """A `StreamStore` over several logs of any technology; use `open`.

    Each log has its own positions and its own recorded time. So whatever needs one order over all
    streams cannot be had, and is refused: an append to streams of several shards, a condition on
    tags, whose events may be in any of them, and a pipeline through several. An idempotency key
    is kept in the shard of its streams: that the same command is not carried out twice holds as
    ever, that a key was used for another command shows within a shard only.
    """

    def __init__(self, logs: Sequence[EventStore]) -> None:
        """Take over open logs that are known to belong together; use `open`."""
        self._logs = tuple(logs)
        epochs = "\n".join(log.epoch for log in self._logs)
        self._epoch = blake2b(epochs.encode(), digest_size=16).hexdigest()

    @classmethod
    async def open(cls, logs: Sequence[EventStore], *, names: Sequence[str] = ()) -> Self:
        """Make a store of new logs, or open one that was made of these before.

        Each log has stored which shard it is, so that one that is missing, foreign or in another
        place is found out. Several processes may do this at once. Who closes the store closes
        the logs; when it is not opened, they stay open.

        Args:
            logs: all of them, in the order in which the store was made; at least two.
            names: what they are called in messages, such as their URLs.

        Raises:
            InvalidInput: there are fewer than two.
            ShardMismatch: a log is not the shard that it should be.
            StoreUnavailable: one of the logs is away.
        """
        if len(logs) < 2:
            raise InvalidInput(reason=f"a sharded store needs two logs or more, got {len(logs)}")
        called = list(names) or [f"log {index}" for index in range(len(logs))]
        wanted = await check_shards(logs, names=called)
        for name, log, expected in zip(called, logs, wanted, strict=True):
            if await log.shard() is None:
                _check(name, await log.settle_shard(expected), expected, head=await log.head())
        return cls(logs)

    @property
    def epoch(self) -> str:
        """See `StreamStore.epoch`; made of those of all logs."""
        return self._epoch

    @property
    def shards(self) -> tuple[EventStore, ...]:
        """See `StreamStore.shards`."""
        return self._logs

    def shard_of(self, stream: str) -> int:
        """See `StreamStore.shard_of`."""
        return shard_of(stream, len(self._logs))

    async def append(
        self,
        writes: Sequence[StreamWrite],
        *,
        condition: AppendCondition | None = None,
        idempotency: Idempotency | None = None,
        pipeline: Pipeline | None = None,
    ) -> Appended:
        """See `StreamStore.append`. The outcome names the shard.

        Raises:
            InvalidInput: the writes are of several shards or of none, the pipeline is of another
                one, or there is a condition.
        """
        try:
            shard = self._shard_of_all(writes, condition, pipeline)
        except HeadwaterError as error:
            if pipeline is not None and pipeline.broken is None:
                pipeline.broken = error
            raise
        appended = await self._logs[shard].append(
            writes, idempotency=idempotency, pipeline=pipeline
        )
        return msgspec.structs.replace(appended, shard=shard) if shard else appended

    async def outcome(self, key: str) -> tuple[Appended, str] | None:
        """See `StreamStore.outcome`; of a key that several shards have, that of the first.

        Ask the shard where the stream is known.
        """
        outcomes = await asyncio.gather(*(log.outcome(key) for log in self._logs))
        for shard, found in enumerate(outcomes):
            if found is not None:
                return msgspec.structs.replace(found[0], shard=shard), found[1]
        return None

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
        """See `StreamStore.read_stream`; positions are those of the stream's shard."""
        return self._log_of(stream).read_stream(
            stream,
            after=after,
            until=until,
            backwards=backwards,
            limit=limit,
            page_size=page_size,
        )

    async def version(self, stream: str) -> int:
        """See `StreamStore.version`."""
        return await self._log_of(stream).version(stream)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """See `StreamStore.save_snapshot`."""
        await self._log_of(snapshot.stream).save_snapshot(snapshot)

    async def load_snapshot(self, stream: str) -> Snapshot | None:
        """See `StreamStore.load_snapshot`."""
        return await self._log_of(stream).load_snapshot(stream)

    async def read_snapshots(
        self, prefix: str = "", *, page_size: int = 100
    ) -> AsyncIterator[tuple[Snapshot, ...]]:
        """See `StreamStore.read_snapshots`."""
        for log in self._logs:
            async for page in log.read_snapshots(prefix, page_size=page_size):
                yield page

    async def drop_snapshot(self, stream: str) -> bool:
        """See `StreamStore.drop_snapshot`."""
        return await self._log_of(stream).drop_snapshot(stream)

    async def drop_snapshots(self, prefix: str = "") -> int:
        """See `StreamStore.drop_snapshots`."""
        return sum([await log.drop_snapshots(prefix) for log in self._logs])

    async def forget_keys(self, age_s: float) -> int:
        """See `StreamStore.forget_keys`."""
        return sum([await log.forget_keys(age_s) for log in self._logs])

    async def close(self) -> None:
        """See `StreamStore.close`."""
        outcomes = await asyncio.gather(
            *(log.close() for log in self._logs), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _log_of(self, stream: str) -> EventStore:
        return self._logs[self.shard_of(stream)]

    def _shard_of_all(
        self,
        writes: Sequence[StreamWrite],
        condition: AppendCondition | None,
        pipeline: Pipeline | None,
    ) -> int:
        """Return the one shard that an append goes to.

        Raises:
            InvalidInput: there is no such shard.
        """
        if condition is not None:
            reason = (
                f"the store is spread over {len(self._logs)} databases, none of which can hold a "
                "condition on the events of all: let one stream hold it, by its expected version"
            )
            raise InvalidInput(reason=reason)
        if not writes:
            reason = "an append without streams has no shard: name a stream, without events"
            raise InvalidInput(reason=reason)
        shard = self.shard_of(writes[0].stream)
        for write in writes[1:]:
            if (other := self.shard_of(write.stream)) != shard:
                reason = (
                    f"streams {writes[0].stream!r} and {write.stream!r} are in shards {shard} and "
                    f"{other}, which cannot be written in one step: append to each by itself, "
                    "for example from a saga"
                )
                raise InvalidInput(reason=reason)
        if pipeline is not None:
            if pipeline.shard not in (None, shard):
                reason = (
                    f"the pipeline is of shard {pipeline.shard}, and stream {writes[0].stream!r} "
                    f"in shard {shard}: use a pipeline for each shard"
                )
                raise InvalidInput(reason=reason)
            pipeline.shard = shard
        return shard


async def check_shards(logs: Sequence[ReadableLog], *, names: Sequence[str]) -> list[Shard]:
    """Check that logs are all the shards of a store, or new; return which each is, or would be.

    Raises:
        ShardMismatch: a log is not the shard that it should be.
        StoreUnavailable: one of the logs is away.
    """
    heads = await asyncio.gather(*(log.head() for log in logs))  # before what is settled
    settled = await asyncio.gather(*(log.shard() for log in logs))
    first = settled[0]
    store = first.store if first is not None and first.store else logs[0].epoch
    wanted = [Shard(store, index, len(logs)) for index in range(len(logs))]
    for name, found, expected, head in zip(names, settled, wanted, heads, strict=True):
        if found is not None or any(heads):
            _check(name, found, expected, head=head)
    return wanted


async def settle_whole(log: EventStore, *, name: str) -> EventStore:
    """Return a log that is a store by itself; it is settled as that.

    Raises:
        ShardMismatch: it is a shard of a store.
        StoreUnavailable: it is away.
    """
    _check(name, await log.shard() or await log.settle_shard(WHOLE), WHOLE, head=0)
    return log


def _check(name: str, found: Shard | None, expected: Shard, *, head: int) -> None:
    if found == expected:
        return
    actual, remedy = _describe(found), _ORDER
    if found is None and head:
        actual = f"a store by itself with {head} events"
        remedy = "a store that has events cannot be spread: begin with new databases"
    elif found is None:
        remedy = "correct its URL; if it was lost, restore it from its backup"
    elif not found.store:
        remedy = "a store is spread when it is made: begin with new databases"
    elif expected.store and found.store != expected.store:
        actual = f"{actual} of another store"
    reason = f"it is {actual}, expected {_describe(expected)}: {remedy}"
    raise ShardMismatch(store=name, reason=reason)


def _describe(shard: Shard | None) -> str:
    if shard is None:
        return "a new database"
    return f"shard {shard.index} of {shard.count}" if shard.store else "a store by itself"
