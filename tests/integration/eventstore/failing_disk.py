"""Runs in a process of its own: the system refuses writes beyond a file size for a while."""
# ruff: noqa: T201  # its output is how it reports to the test

import asyncio
import resource
import signal
import sys
from pathlib import Path

from headwater.errors import HeadwaterError
from headwater.eventstore import Idempotency, NewEvent, Pipeline, StreamWrite
from headwater.eventstore.sqlite import SQLiteEventStore


def limit_growth(file: Path) -> None:
    """Let files be hardly longer than this one is."""
    longest = file.stat().st_size + 1000
    resource.setrlimit(resource.RLIMIT_FSIZE, (longest, resource.RLIM_INFINITY))


async def main(path: Path) -> None:
    store = await SQLiteEventStore.open(path)
    event = NewEvent("A", 1, b"x" * 5000, b"{}", ("t",))
    await store.append([StreamWrite("a", [event], 0)])
    limit_growth(Path(f"{path}-wal"))
    pipeline = Pipeline()
    results = await asyncio.gather(
        store.append([StreamWrite("a", [event] * 9, 1)], pipeline=pipeline),
        store.append([StreamWrite("b", [event], 0)], idempotency=Idempotency("k")),
        return_exceptions=True,
    )
    print(*(f"{type(result).__name__}:{getattr(result, 'outcome', '')}" for result in results))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    outcome = await store.outcome("k")  # how an unknown outcome is found out
    if outcome is None and all(isinstance(result, HeadwaterError) for result in results):
        await store.append([StreamWrite("b", [event], 0)], idempotency=Idempotency("k"))
    print(await store.head())
    print(pipeline.broken is not None)
    await store.close()


if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    asyncio.run(main(Path(sys.argv[1])))
