"""A broker for one play, started for it; it is killed and started again meanwhile."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
_AWAY_S = 2.0


class Broker:
    """The broker of the event bus."""

    def __init__(self, name: str, server: Any, url: str, thread: ThreadPoolExecutor) -> None:
        """Take over a server that runs; ``thread`` is the one that it would end with."""
        self.name = name
        self.url = url
        self._server = server
        self._thread = thread
        self._starting: asyncio.Future[None] | None = None

    def kill(self) -> str:
        """Kill it, and have it started again some seconds later; say so."""
        self._server.kill()
        self._starting = asyncio.ensure_future(self._start_again())
        return f"killed {self.name}, which comes back after {_AWAY_S:g} s"

    async def back(self) -> None:
        """Return when it is there again."""
        if self._starting is not None:
            await self._starting

    async def _start_again(self) -> None:
        await asyncio.sleep(_AWAY_S)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._server.start)


@contextlib.asynccontextmanager
async def broker(name: str) -> AsyncIterator[Broker | None]:
    """Start RabbitMQ or Kafka; None if the bus needs no broker."""
    if not name:
        yield None
        return
    sys.path.append(str(ROOT))
    server: Any
    with ThreadPoolExecutor(1) as thread:
        run = asyncio.get_running_loop().run_in_executor
        if name == "rabbitmq":
            from tests.rabbitmq_server import RabbitServer

            server = await run(thread, RabbitServer)
            url = server.url(name="bank")
        else:
            from tests.kafka_server import KafkaServer

            server = await run(thread, KafkaServer)
            url = server.url("bank")
        try:
            await run(thread, server.start)
            yield Broker(name, server, url, thread)
        finally:
            await run(thread, server.remove)
