"""A process that shares a view store: ``peer_views.py <role> <path> <name>``."""

import asyncio
import sys
import time
from typing import Annotated

from headwater.errors import ClaimLost
from headwater.views import Index, Key, View
from headwater.views.sqlite import SQLiteViewStore

ROUNDS = 40


class Entry(View):
    """One piece of work: who did it under which fence."""

    id: Annotated[str, Key]
    segment: Annotated[int, Index]
    fence: int
    owner: str
    number: int


async def heard() -> str:
    return (await asyncio.to_thread(sys.stdin.readline)).rstrip("\n")


def say(text: object) -> None:
    print(text, flush=True)  # noqa: T201  # how it talks to the test


async def work(store: SQLiteViewStore, name: str) -> None:
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


async def hang(store: SQLiteViewStore, name: str) -> None:
    """Claim a segment and hang in the middle of a transaction."""
    (segment,) = await store.segments("p")
    claimed = await store.claim(segment, owner=name, lease_s=60)
    assert claimed is not None
    async with store.transaction() as step:
        await step.save([Entry("0/1", 0, claimed.fence, name, 1)])
        await step.advance([claimed], "1")
        say("inside")
        await heard()


async def zombie(store: SQLiteViewStore, name: str) -> None:
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


async def commit(store: SQLiteViewStore, name: str) -> None:
    """Commit whenever told, and say when that was done."""
    while await heard() == "commit":
        async with store.transaction() as step:
            await step.save([Entry("0/0", 0, 0, name, 0)])
        say(time.monotonic())


async def main() -> None:
    """Play a role."""
    role, path, name = sys.argv[1:]
    store = await SQLiteViewStore.open(path)
    await store.ensure([Entry])
    await {"work": work, "hang": hang, "zombie": zombie, "commit": commit}[role](store, name)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
