"""One connection to a queue: what was delivered, and what is said about it."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError, PublishError

from headwater.bridges.amqp.broker import ANSWER_S_MAX, Broker
from headwater.bridges.amqp.declarations import AmqpQueue
from headwater.errors import StoreUnavailable

_REASON_MAX = 4000  # characters


class Session:
    """A consumer of a queue until its first failure; ``fresh`` is what nobody has looked at."""

    def __init__(self, queue: AmqpQueue, broker: Broker, wake: Callable[[], None]) -> None:
        """Use `open`; ``wake`` is called when there is something to look at."""
        self.fresh: deque[AbstractIncomingMessage] = deque()
        self.lost: StoreUnavailable | None = None
        self._queue = queue
        self._broker = broker
        self._wake = wake
        self._channel: AbstractChannel | None = None
        self._letters: AbstractChannel | None = None
        self._connection: AbstractConnection

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, queue: AmqpQueue, broker: Broker, *, called: str, wake: Callable[[], None]
    ) -> AsyncIterator["Session"]:
        """Connect, and consume while the block lasts.

        Raises:
            StoreUnavailable: the broker is away, or refuses; the queue or the exchange of dead
                letters is not there.
        """
        session = cls(queue, broker, wake)
        async with broker.connected(called) as connection:
            session._connection = connection
            with broker.faults():
                await session._begin()
            yield session

    async def _begin(self) -> None:
        await self._letters_to()
        channel = self._channel = await self._new_channel()
        await channel.set_qos(prefetch_count=self._queue.prefetch, timeout=ANSWER_S_MAX)
        channel.close_callbacks.add(self._closed)
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(self._cancelled)
        try:
            queue = await channel.get_queue(self._queue.queue)
        except ChannelNotFoundEntity:
            reason = f"there is no queue {self._queue.queue!r}: make it, or correct the name"
            raise self._broker.unavailable(reason) from None
        await queue.consume(self._deliver, timeout=ANSWER_S_MAX)

    async def _new_channel(self) -> AbstractChannel:
        async with asyncio.timeout(ANSWER_S_MAX):
            return await self._connection.channel(publisher_confirms=True, on_return_raises=True)

    async def _letters_to(self) -> AbstractChannel:
        """Return the channel for dead letters; their exchange is there."""
        if self._letters is None or self._letters.is_closed:
            channel = await self._new_channel()
            try:
                await channel.get_exchange(self._queue.dead_letters)
            except ChannelNotFoundEntity:
                reason = (
                    f"there is no exchange {self._queue.dead_letters!r} for dead letters of queue "
                    f"{self._queue.queue!r}: make it, and bind a queue to it"
                )
                raise self._broker.unavailable(reason) from None
            self._letters = channel
        return self._letters

    async def _deliver(self, message: AbstractIncomingMessage) -> None:
        self.fresh.append(message)
        self._wake()

    def _closed(self, _: Any, error: BaseException | None) -> None:
        self.lost = self.lost or self._broker.unavailable(error or "the connection was closed")
        self._wake()

    def _cancelled(self, _: Any) -> None:
        reason = f"queue {self._queue.queue!r} was deleted, or has moved"
        self.lost = self.lost or self._broker.unavailable(reason)
        self._wake()

    async def acknowledge(self, message: AbstractIncomingMessage) -> None:
        """Say that a message was handled.

        Raises:
            StoreUnavailable: the connection is lost; the message will be delivered again.
        """
        with self._broker.faults():
            await message.ack()

    async def dead_letter(
        self,
        message: AbstractIncomingMessage,
        *,
        error: str,
        code: str,
        attempts: int,
        service: str,
    ) -> None:
        """Put a copy of a message on the exchange of dead letters, then acknowledge the message.

        Raises:
            StoreUnavailable: nobody has it for good; the message stays where it is.
        """
        headers = dict(message.headers or {}) | {
            "x-headwater-error": error[:_REASON_MAX],
            "x-headwater-code": code,
            "x-headwater-attempts": attempts,
            "x-headwater-service": service,
            "x-headwater-queue": self._queue.queue,
            "x-headwater-time": datetime.now(UTC),
        }
        copy = Message(
            message.body,
            headers=headers,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            delivery_mode=DeliveryMode.PERSISTENT,
            priority=message.priority,
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
            message_id=message.message_id,
            timestamp=message.timestamp,
            type=message.type,
            app_id=message.app_id,
        )
        key, name = message.routing_key or "", self._queue.dead_letters
        with self._broker.faults():
            channel = await self._letters_to()
            exchange = await channel.get_exchange(name, ensure=False)
            try:
                await exchange.publish(copy, key, mandatory=True, timeout=ANSWER_S_MAX)
            except PublishError:
                raise self._undeliverable(f"has no queue for {key!r}: bind one") from None
            except DeliveryError as refusal:
                raise self._undeliverable(f"does not take it: {refusal}") from None
        await self.acknowledge(message)

    def _undeliverable(self, reason: str) -> StoreUnavailable:
        return self._broker.unavailable(
            f"exchange {self._queue.dead_letters!r} for dead letters {reason}"
        )


__all__ = ["Session"]
