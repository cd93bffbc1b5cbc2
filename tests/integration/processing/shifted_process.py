"""A worker whose wall clock is wrong by as many seconds as it is told; it appends an event, too."""

import asyncio
import sys
import time

SHIFT_S = float(sys.argv[4])
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + SHIFT_S  # before anything can keep the right one
time.time_ns = lambda: _time_ns() + int(SHIFT_S * 1e9)

import structlog  # noqa: E402  # see above

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # not among answers

from tests.integration.processing.domain import Deposited, Opened, append  # noqa: E402  # see above
from tests.integration.processing.worker_process import main, open_stores  # noqa: E402


async def _append(place: str) -> None:
    store, views = await open_stores(place)
    await append(store, "a/shifted", Opened("shifted", "Eve"), Deposited("shifted", 1))
    await store.close()
    await views.close()


asyncio.run(_append(sys.argv[2]))
asyncio.run(main(*sys.argv[1:4]))
