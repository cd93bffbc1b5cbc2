"""Two attempts where one is slow: the first good answer wins, the other is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from headwater.client.messages import Reply

A = TypeVar("A")


async def first_answer(
    first: Callable[[], Awaitable[Reply]],
    second: Callable[[], Awaitable[Reply]],
    *,
    delay_s: float,
) -> Reply:
    """Return the first answer below 500, else the last one; nothing runs on afterwards.

    The second attempt starts when the first has not ended after ``delay_s``; a first attempt
    that ends earlier decides alone.

    Raises:
        HeadwaterError: what the last attempt raised, when none answered.
    """
    tasks = [asyncio.ensure_future(_run(first))]
    try:
        done, _ = await asyncio.wait(tasks, timeout=delay_s)
        if done:
            return tasks[0].result()
        tasks.append(asyncio.ensure_future(_run(second)))
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if pending and not any(map(_good, done)):
            done, _ = await asyncio.wait(pending)
        best = next(filter(_good, done), None) or next(iter(done))
        return best.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(attempt: Callable[[], Awaitable[A]]) -> A:
    return await attempt()


def _good(task: "asyncio.Future[Reply]") -> bool:
    return task.exception() is None and task.result().status < 500
