"""When a worker's pages are read."""

import asyncio
from collections.abc import AsyncIterator

from headwater.processing.running.segment_groups import Reader
from headwater.processing.sources.source import SourcePage
from headwater.processing.sources.tokens import Token
from headwater.testing.eventstore_base import soon
from tests.unit.processing.test_shard_sources import bus_event


async def test_one_page_is_read_ahead_while_there_are_many_events() -> None:
    """A full page is followed at once, as one of no events; a small one when it was worked on."""
    asked = 0  # for how many pages the source was asked
    there = asyncio.Event()

    async def pages() -> AsyncIterator[SourcePage]:
        nonlocal asked
        for size in (10, 6, 5, 1, 0, 1):
            asked += 1
            yield SourcePage([bus_event("s", n) for n in range(1, size + 1)], Token())

    async def taken() -> int:
        there.clear()
        reader.read_on()
        if not reader.ready:
            await soon(there.wait())
        size = len(reader.take().events)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return size

    reader = Reader(pages(), there.set, page_size=10)
    assert [(await taken(), asked) for _ in range(4)] == [(10, 2), (6, 3), (5, 3), (1, 4)]
    assert not reader.ready
    assert (await taken(), asked) == (0, 6)
    await reader.close()
