"""An event store whose appends are carried out when a test says so."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from headwater.errors import HeadwaterError
from headwater.eventstore import Appended, StreamWrite
from headwater.eventstore.memory import MemoryEventStore


class HeldStore:
    """The store in memory, whose appends wait in a queue as they do on their way to a disk."""

    def __init__(self) -> None:
        self.memory = MemoryEventStore()
        self.shards = (self,)
        self.waiting: deque[tuple[asyncio.Future[Appended], Any, Any]] = deque()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)

    async def append(self, writes: Sequence[StreamWrite], **options: Any) -> Appended:
        turn: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self.waiting.append((turn, writes, options))
        return await turn

    async def carry_out(self, count: int) -> None:
        """Carry out the first appends, also those that nobody waits for any more."""
        for _ in range(min(count, len(self.waiting))):
            turn, writes, options = self.waiting.popleft()
            try:
                appended = await self.memory.append(writes, **options)
            except HeadwaterError as error:
                if not turn.done():
                    turn.set_exception(error)
            else:
                if not turn.done():
                    turn.set_result(appended)
