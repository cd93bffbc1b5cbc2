"""A process that shares a view store: ``peer_views.py <role> <path or URL> <name>``."""

import asyncio
import sys
import time
from typing import Annotated, Any

from headwater.errors import ClaimLost, StoreUnavailable
from headwater.views import Index, Key, View, ViewStore
from headwater.views.postgres import PostgresViewStore
from headwater.views.sqlite import SQLiteViewStore

ROUNDS = 40


class Entry(View):
    """One piece of work: who did it under which fence."""

    id: Annotated[str, Key]
    segment: Annotated[int, Index]
    fence: int
    owner: str
    number: int


class Total(View):
    """What all work on together, whatever their segment."""

    id: Annotated[str, Key]
    total: int = 0


async def open_views(place: str, **options: Any) -> ViewStore:
    """Open the store in a file or at a URL."""
    if "://" in place:
        return await PostgresViewStore.open(place, **options)
    return await SQLiteViewStore.open(place, **options)


async def heard() -> str:
    return (await asyncio.to_thread(sys.stdin.readline)).rstrip("\n")


def say(text: object) -> None:
    print(text, flush=True)  # noqa: T201  # how it talks to the test


async def work(store: ViewStore, name: str) -> None:
    """Claim any segment, do one piece of work in it, give it back; many times."""
    done = 0
    while done < ROUNDS:
        for segment in await store.segments("p"):
            claimed = await store.claim(segment, owner=name, lease_s=60)
            if claimed is None:
                continue
            number = int(claimed.token) + 1
            async with store.transaction() as step:
                identity = f"{claimed.index}/{number}"
                assert await step.load(Entry, [identity]) == {}
                await step.save([Entry(identity, claimed.index, claimed.fence, name, number)])
                await step.advance([claimed], str(number))
            await store.release([claimed])
            done += 1
    say("done")


async def together(store: ViewStore, name: str) -> None:
    """Add to totals that the others add to, too; begin again when they came in between."""
    done = 0
    while done < ROUNDS:
        keys = [f"t{(done + n) % 7}" for n in range(3)]
        try:
            async with store.transaction() as step:
                found = await step.load(Total, keys)
                totals = [found.get(key) or Total(key) for key in keys]
                for total in totals:
                    total.total += 1
                await step.save(totals)
        except StoreUnavailable:
            continue
        done += 1
    say(f"done {name}")


async def hang(store: ViewStore, name: str) -> None:
    """Claim a segment and hang in the middle of a transaction."""
    (segment,) = await store.segments("p")
    claimed = await store.claim(segment, owner=name, lease_s=60)
    assert claimed is not None
    async with store.transaction() as step:
        await step.save([Entry("0/1", 0, claimed.fence, name, 1)])
        await step.advance([claimed], "1")
        say("inside")
        await heard()


async def zombie(store: ViewStore, name: str) -> None:
    """Claim a segment, wait, and then go on as if it were still ours."""
    (segment,) = await store.segments("p")
    claimed = await store.claim(segment, owner=name, lease_s=60)
    assert claimed is not None
    say("claimed")
    await heard()
    try:
        async with store.transaction() as step:
            await step.save([Entry("zombie", 0, claimed.fence, name, 1)])
            await step.advance([claimed], "666")
    except ClaimLost as error:
        say(error)
    say(len(await store.renew([claimed], lease_s=60)))


async def commit(store: ViewStore, name: str) -> None:
    """Commit whenever told, and say when that was done."""
    while (number := await heard()) != "stop":
        async with store.transaction() as step:
            await step.save([Entry("0/0", 0, 0, name, int(number))])
        say(time.monotonic())


async def main() -> None:
    """Play a role."""
    role, place, name = sys.argv[1:]
    store = await open_views(place)
    await store.ensure([Entry, Total])
    roles = {"work": work, "together": together, "hang": hang, "zombie": zombie, "commit": commit}
    await roles[role](store, name)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
