"""Runs in a process of its own: the system refuses writes beyond a file size for a while."""
# ruff: noqa: T201  # its output is how it reports to the test

import asyncio
import signal
import sys
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, setrlimit
from typing import Annotated

from headwater.errors import ClaimLost, StoreUnavailable
from headwater.views import Key, Segment, View
from headwater.views.sqlite import SQLiteViewStore


class Doc(View):
    id: Annotated[str, Key]
    text: str


def limit_growth(file: Path) -> None:
    """Let files be hardly longer than this one is."""
    setrlimit(RLIMIT_FSIZE, (file.stat().st_size + 1000, RLIM_INFINITY))


async def step(store: SQLiteViewStore, claim: Segment, token: str) -> str:
    """Move a token on with a large document; return how that ended."""
    try:
        async with store.transaction(synced=True) as work:
            await work.advance([claim], token)
            await work.save([Doc(token, "x" * 50_000)])
    except StoreUnavailable as error:
        return error.outcome
    except ClaimLost:
        return "claim lost"
    return "stored"


async def main(path: Path) -> None:
    store = await SQLiteViewStore.open(path)
    await store.ensure([Doc])
    (segment,) = await store.open_segments("p", count=1, token="0", generation=1)
    claim = await store.claim(segment, owner="me", lease_s=1000)
    assert claim is not None
    print(await step(store, claim, "1"))
    limit_growth(Path(f"{path}-wal"))
    print(await step(store, claim, "2"))
    setrlimit(RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY))
    print(await step(store, claim, "2"))
    again = await store.claim(claim, owner="me", lease_s=1000, restarted=True)
    assert again is not None
    if again.token == "1":
        assert await store.get(Doc, "2") is None
    print(await step(store, again, "3"))
    await store.close()


if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    asyncio.run(main(Path(sys.argv[1])))
