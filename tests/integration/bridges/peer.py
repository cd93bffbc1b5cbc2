"""Another program on the same broker, which knows nothing of Headwater."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, TimeoutType

from tests.rabbitmq_server import RabbitServer, fresh_name

WAIT_S_MAX = 90.0
CLASSIC: dict[str, Any] = {}
QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}


class _Connection(aio_pika.Connection):
    async def connect(self, timeout: TimeoutType = None) -> None:  # noqa: ASYNC109  # the client's
        try:
            await super().connect(timeout)
        except BaseException:
            await self.close()  # else it is done when it is collected, perhaps by nobody
            raise


class Peer:
    """Makes queues and exchanges, sends and gets messages."""

    def __init__(self, broker: RabbitServer) -> None:
        self.broker = broker
        self.queue = f"q-{fresh_name()}"
        self.dead = f"dlx-{fresh_name()}"
        self.exchange = f"x-{fresh_name()}"

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        connection = await aio_pika.connect(
            self.broker.amqp_url, timeout=30, connection_class=_Connection
        )
        try:
            yield await connection.channel(on_return_raises=True)
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.close(), 5)

    async def make(
        self, arguments: Mapping[str, Any] | None = None, *, letters: bool = True
    ) -> None:
        """Make the queue, and the exchange of its dead letters, perhaps with a queue."""
        async with self.channel() as channel:
            await channel.declare_queue(self.queue, durable=True, arguments=dict(arguments or {}))
            await channel.declare_exchange(self.dead, ExchangeType.FANOUT, durable=True)
        if letters:
            await self.bind(f"{self.dead}-q", self.dead)

    async def bind(
        self,
        queue: str,
        exchange: str,
        key: str = "#",
        arguments: Mapping[str, Any] | None = None,
        *,
        kind: ExchangeType = ExchangeType.TOPIC,
        make: bool = False,
    ) -> None:
        """Make a queue and bind it to an exchange, which is made, too, if wanted."""
        async with self.channel() as channel:
            if make:
                await channel.declare_exchange(exchange, kind, durable=True)
            made = await channel.declare_queue(queue, durable=True, arguments=dict(arguments or {}))
            await made.bind(exchange, key)

    async def send(self, *messages: Message) -> None:
        """Send to the queue; return when the broker has them."""
        async with self.channel() as channel:
            for message in messages:
                await channel.default_exchange.publish(message, self.queue)

    async def count(self, queue: str = "") -> int:
        """Return how many messages wait in a queue, unacknowledged ones not counted."""
        async with self.channel() as channel:
            found = await channel.declare_queue(queue or self.queue, passive=True)
            return found.declaration_result.message_count or 0

    async def take(self, queue: str, number: int) -> list[AbstractIncomingMessage]:
        """Return the next messages of a queue, and acknowledge them."""
        taken: list[AbstractIncomingMessage] = []
        ends = time.monotonic() + WAIT_S_MAX
        async with self.channel() as channel:
            source = await channel.get_queue(queue)
            while len(taken) < number:
                message = await source.get(fail=False)
                if message is None:
                    assert time.monotonic() < ends, f"{len(taken)} of {number} messages came"
                    await asyncio.sleep(0.02)
                    continue
                await message.ack()
                taken.append(message)
        return taken

    async def letters(self, number: int) -> list[AbstractIncomingMessage]:
        """Return the next dead letters."""
        return await self.take(f"{self.dead}-q", number)


def event(
    number: int, *, kind: str = "Shipped", subject: str = "", data: Any = None, source: str = "wms"
) -> Message:
    """Return a CloudEvent in structured mode."""
    document = {
        "specversion": "1.0",
        "id": f"e{number}",
        "source": source,
        "type": kind,
        "subject": subject or f"o{number}",
        "data": {"order_id": subject or f"o{number}", "parcels": 1} if data is None else data,
    }
    return Message(
        json.dumps(document).encode(),
        content_type="application/cloudevents+json; charset=utf-8",
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=f"e{number}",
    )


async def until(condition: Callable[[], Any], what: str = "") -> None:
    """Return when a condition, which may be awaited, holds."""
    ends = time.monotonic() + WAIT_S_MAX
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < ends, f"never came: {what or condition}"
        await asyncio.sleep(0.02)


def ids(messages: Sequence[AbstractIncomingMessage]) -> list[str]:
    """Return the ids of messages, in order."""
    return [message.message_id or "" for message in messages]
