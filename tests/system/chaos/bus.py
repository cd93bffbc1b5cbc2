"""A broker that carries the event bus of a town, and the line to it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tests.kafka_server import KafkaServer
from tests.line import Line
from tests.rabbitmq_server import RabbitServer

T = TypeVar("T")
BROKERS = ("rabbitmq", "kafka")


class Broker:
    """A broker that can be killed, ended and stopped, at the end of a line that can be cut.

    Attributes:
        name: ``rabbitmq`` or ``kafka``.
        url: of the bus, by way of the line.
        line: the only way from the town to the broker.
    """

    def __init__(
        self, name: str, server: RabbitServer | KafkaServer, line: Line, thread: ThreadPoolExecutor
    ) -> None:
        """Take over a server; ``thread`` is the one that it would end with."""
        self.name, self.line = name, line
        self._server, self._thread = server, thread
        if isinstance(server, RabbitServer):
            self.url = server.url(port=line.port, name="bank")
        else:
            self.url = f"kafka://127.0.0.1:{line.port}/bank"

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        await self._do(self._server.start)

    async def end(self, number: signal.Signals) -> None:
        """End it by a signal, and wait."""
        await self._do(lambda: self._server.stop(number))

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self._server.pid, number)

    async def remove(self) -> None:
        """End it and delete its files."""
        await self._do(self._server.remove)

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


@contextlib.asynccontextmanager
async def broker(name: str) -> AsyncIterator[Broker | None]:
    """Run RabbitMQ or Kafka behind a line; None if the bus needs no broker."""
    if not name:
        yield None
        return
    async with Line(0) as line:
        with ThreadPoolExecutor(1) as thread:  # a server ends with the thread that started it
            run = asyncio.get_running_loop().run_in_executor
            server: RabbitServer | KafkaServer
            if name == "rabbitmq":
                told = {"stream.advertised_port": str(line.port)}
                server = await run(thread, lambda: RabbitServer(told))
            else:
                server = await run(thread, lambda: KafkaServer(advertised=line.port))
            line.lead_to(server.port)
            found = Broker(name, server, line, thread)
            try:
                await found.start()
                yield found
            finally:
                await found.remove()


__all__ = ["BROKERS", "Broker", "broker"]
