"""Part of the event store suite: the log is the witness of what many callers were told."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headwater.errors import HeadwaterError
from headwater.eventstore import (
    AppendCondition,
    EventFilter,
    EventStore,
    FilterItem,
    Idempotency,
    NewEvent,
    Pipeline,
    StreamWrite,
)
from headwater.testing.eventstore_base import EventStoreBase
from headwater.testing.history import History, RecordedStore, check_store

STREAMS = ("a", "b", "c/\u20ac")
TYPES = ("Counted", "Taken")
TAGS = ("x", "y", "z")


class Work:
    """Callers that do random things with a store; each event is unlike all others."""

    def __init__(self, store: EventStore, seed: int, *, name: str = "") -> None:
        """Work with a store; ``name`` makes events and keys unlike those of other workers."""
        self._store = store
        self._name = name
        self._chance = random.Random(seed)  # noqa: S311 - nothing secret depends on it
        self._numbers = 0
        self._keys: list[Idempotency] = []
        self._stepped = asyncio.Semaphore(0)

    async def run(self, *, callers: int = 4, steps: int = 60, cancelled: int = 0) -> None:
        """Let callers work at once; so many are cancelled in the midst of it, and replaced."""
        tasks = [asyncio.create_task(self._caller(steps)) for _ in range(callers)]
        for _ in range(cancelled):
            for _ in range(callers * steps // (cancelled + 1)):
                await self._stepped.acquire()
            for _ in range(self._chance.randrange(4)):
                await asyncio.sleep(0)
            which = self._chance.randrange(callers)
            tasks[which].cancel()
            await asyncio.wait([tasks[which]])
            tasks[which] = asyncio.create_task(self._caller(steps))
        await asyncio.gather(*tasks)

    async def _caller(self, steps: int) -> None:
        kinds = [self._append] * 3 + [self._conditional, self._keyed, self._piped, self._read]
        for _ in range(steps):
            with contextlib.suppress(HeadwaterError):
                await self._chance.choice(kinds)()
            self._stepped.release()

    def event(self, *tags: str) -> NewEvent:
        """Return an event that nobody else stores."""
        self._numbers += 1
        data = f'{{"by":"{self._name}","number":{self._numbers}}}'.encode()
        return NewEvent(self._chance.choice(TYPES), 1, data, b"{}", tags)

    def _events(self) -> list[NewEvent]:
        tags = self._chance.sample(TAGS, self._chance.randrange(3))
        return [self.event(*tags) for _ in range(self._chance.choice((0, 1, 1, 1, 2)))]

    async def _write(self, stream: str) -> StreamWrite:
        expected = None
        if self._chance.random() < 0.7:
            expected = await self._store.version(stream)
            expected = max(0, expected + self._chance.choice((0, 0, 0, -1)))
        return StreamWrite(stream, self._events(), expected)

    async def _writes(self) -> list[StreamWrite]:
        streams = self._chance.sample(STREAMS, self._chance.choice((1, 1, 2)))
        return [await self._write(stream) for stream in streams]

    async def _append(self) -> None:
        await self._store.append(await self._writes())

    async def _conditional(self) -> None:
        item = FilterItem((self._chance.choice(TYPES),), (self._chance.choice(TAGS),))
        after = max(0, await self._store.head() - self._chance.choice((0, 0, 2)))
        condition = AppendCondition(EventFilter((item,)), after)
        await self._store.append(await self._writes(), condition=condition)

    async def _keyed(self) -> None:
        if self._keys and self._chance.random() < 0.5:
            idempotency = self._chance.choice(self._keys)
            if self._chance.random() < 0.2:
                idempotency = Idempotency(idempotency.key, "other")
        else:
            idempotency = Idempotency(f"{self._name}-{len(self._keys)}", "f")
            self._keys.append(idempotency)
        await self._store.append(await self._writes(), idempotency=idempotency)
        await self._store.outcome(idempotency.key)

    async def _piped(self) -> None:
        pipeline = Pipeline()
        write = await self._write(self._chance.choice(STREAMS))
        appends = [
            self._store.append([write], pipeline=pipeline),
            self._store.append([StreamWrite(write.stream, self._events())], pipeline=pipeline),
        ]
        await asyncio.gather(*appends, return_exceptions=True)

    async def _read(self) -> None:
        chance = self._chance
        head = await self._store.head()
        numbers: dict[str, Any] = {
            "after": chance.randrange(head + 2),
            "until": chance.choice((None, None, chance.randrange(head + 2))),
            "backwards": chance.random() < 0.3,
            "limit": chance.choice((None, None, 0, 3)),
            "page_size": chance.choice((2, 100)),
        }
        if chance.random() < 0.5:
            pages = self._store.read_stream(chance.choice(STREAMS), **numbers)
        else:
            items = [FilterItem((chance.choice(TYPES),)), FilterItem((), (chance.choice(TAGS),))]
            filter = EventFilter(tuple(items[: chance.randrange(3)]))
            pages = self._store.read(filter=filter, **numbers)
        wanted = chance.choice((1, 100))
        async for _ in pages:
            wanted -= 1
            if not wanted:
                break
        await pages.aclose()  # type: ignore[attr-defined]  # of a generator


class HistoryConformance(EventStoreBase):
    """Whatever callers do at once, the store can have answered as it did."""

    @pytest.mark.parametrize("seed", range(3))
    async def test_the_log_agrees_with_what_callers_were_told(
        self, opened: Callable[[], Awaitable[EventStore]], seed: int
    ) -> None:
        """Nothing is lost, doubled or out of order, no refusal or read is unfounded.

        Callers are cancelled on the way; where stores share their log, half work with another.
        """
        store = await opened()
        stores = [store, await opened() if self.shared else store]
        history = History()
        work = [
            Work(RecordedStore(history, each), seed, name=f"{number}")
            for number, each in enumerate(stores)
        ]
        await asyncio.gather(*(each.run(callers=3, steps=25, cancelled=3) for each in work))
        verdict = await check_store(history, store)
        assert not verdict.violations, verdict
        assert verdict.events > 20
