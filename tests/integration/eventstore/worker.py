"""Runs in processes of its own, started by the tests: appends to, or follows, a shared file."""
# ruff: noqa: T201  # its output is how it reports to the test

import asyncio
import json
import random
import sys

from headwater.errors import ConcurrencyConflict, ConditionFailed
from headwater.eventstore import (
    AppendCondition,
    EventFilter,
    EventStore,
    FilterItem,
    Idempotency,
    NewEvent,
    StreamWrite,
)
from headwater.service.engines import open_event_store
from headwater.testing.history import History, RecordedStore

TASKS = 4
COUNTERS = 3


def event(kind: str, name: str, *tags: str) -> NewEvent:
    return NewEvent(kind, 1, json.dumps({"by": name}).encode(), b"{}", tags)


async def count(store: EventStore, name: str, number: int) -> int:
    """Raise shared counters, each step decided on the version read; return the conflicts."""
    conflicts = 0
    dice = random.Random(name)  # not for security
    for _ in range(number):
        stream = f"counter/{dice.randrange(COUNTERS)}"
        while True:
            version = await store.version(stream)
            try:
                new = [event("Counted", name), event("Counted", name)]
                await store.append([StreamWrite(stream, new, version), StreamWrite(name, new)])
                break
            except ConcurrencyConflict:
                conflicts += 1
    return conflicts


async def take(store: EventStore, name: str, number: int) -> list[int]:
    """Try to take each of some names that only one may have; return those taken."""
    taken = []
    for wanted in range(number):
        filter = EventFilter((FilterItem(("Taken",), (f"name:{wanted}",)),))
        try:
            await store.append(
                [StreamWrite(f"{name}/taken", [event("Taken", name, f"name:{wanted}")])],
                condition=AppendCondition(filter, 0),
            )
            taken.append(wanted)
        except ConditionFailed:
            continue
    return taken


async def recorded(url: str, calls: str, session: str) -> EventStore:
    """Open a store that notes in a file what it is asked and what it answers."""
    return RecordedStore(History(calls), await open_event_store(url), session=session)


async def work(url: str, calls: str, name: str, number: int) -> None:
    store = await recorded(url, calls, name)
    counting = [count(store, f"{name}-{task}", number) for task in range(TASKS)]
    conflicts = await asyncio.gather(*counting)
    taken = await take(store, name, number)
    await store.close()
    print(json.dumps({"conflicts": sum(conflicts), "taken": taken}))


async def follow(url: str, calls: str, through: int) -> None:
    store = await recorded(url, calls, "follower")
    print("ready", flush=True)
    async for page in store.follow():
        if page.through >= through:
            break
    await store.close()


async def echo(url: str, through: int) -> None:
    store = await open_event_store(url)
    print("ready", flush=True)
    async for page in store.follow():
        for stored in page.events:
            print(stored.position, flush=True)
        if page.through >= through:
            break
    await store.close()


async def forever(url: str, calls: str) -> None:
    """Append until killed; say when something was acknowledged."""
    store = await recorded(url, calls, "forever")

    async def one(task: int) -> None:
        number = 0
        while True:
            key = f"{task}-{number}"
            new = [event("Kept", key), event("Kept", key)]
            await store.append(
                [StreamWrite(f"s{task}", new, 2 * number)], idempotency=Idempotency(key)
            )
            print("acknowledged", flush=True)
            number += 1

    await asyncio.gather(*(one(task) for task in range(8)))


if __name__ == "__main__":
    mode, place, *rest = sys.argv[1:]
    url = place if ":" in place else f"sqlite:{place}"
    if mode == "work":
        asyncio.run(work(url, rest[0], rest[1], int(rest[2])))
    elif mode == "follow":
        asyncio.run(follow(url, rest[0], int(rest[1])))
    elif mode == "echo":
        asyncio.run(echo(url, int(rest[0])))
    else:
        asyncio.run(forever(url, rest[0]))
