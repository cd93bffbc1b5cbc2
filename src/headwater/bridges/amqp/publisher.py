"""From the event store to an exchange: a relay whose bus is an exchange."""

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError, PublishError

from headwater.bridges.amqp.broker import ANSWER_S_MAX, Broker, broker_of, close
from headwater.bridges.amqp.declarations import AmqpPublisher
from headwater.bridges.api import Bridge, Parts
from headwater.errors import ConfigurationError
from headwater.eventbus import BusEvent
from headwater.eventbus.cloudevents import encode
from headwater.processing import RelayStatus
from headwater.processing.relay import Relay
from headwater.processing.sources.tokens import log_name, service_of

CONTENT_TYPE = "application/cloudevents+json"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LANES = 64  # streams whose next event is under way; each has one, so that its order stays
_KEY_BYTES_MAX = 255  # of a short string


class Exchange:
    """An exchange as a relay sees it: what it has confirmed is at its queues."""

    partitions = 1
    ordered = True  # that is, nobody is to be told what is confirmed

    def __init__(self, declared: AmqpPublisher, broker: Broker, *, called: str) -> None:
        """Connect later."""
        self._declared = declared
        self._broker = broker
        self._called = called
        self._sent: set[int] = set()  # positions of a page that failed, which are confirmed
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._exchange: AbstractExchange | None = None

    async def publish(self, events: Sequence[BusEvent]) -> None:
        """See `EventBus.publish`; of a stream the next event goes when the one before is confirmed.

        What was confirmed of a page that failed is not sent again when the page is: with queues
        that are full again after a few messages there would be no end.

        Raises:
            StoreUnavailable: the broker is away, or takes an event back; any may be published.
            MalformedMessage: as `EventBus.publish`.
        """
        wanted = self._declared.events
        streams: dict[str, list[BusEvent]] = {}
        for event in events:
            if wanted is None or event.type in wanted:
                streams.setdefault(event.stream, []).append(event)
        if not streams:
            return
        exchange = await self._opened()
        waiting = deque(streams.values())
        lanes = [
            asyncio.ensure_future(self._lane(exchange, waiting))
            for _ in range(min(_LANES, len(waiting)))
        ]
        try:
            await asyncio.gather(*lanes)
        except BaseException:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            await self.close()  # what is under way shall not be confirmed to somebody else
            raise
        self._sent.clear()

    async def _lane(self, exchange: AbstractExchange, waiting: deque[list[BusEvent]]) -> None:
        while waiting:
            for event in waiting.popleft():
                if event.position not in self._sent:
                    await self._send(exchange, event)
                    self._sent.add(event.position)

    async def _send(self, exchange: AbstractExchange, event: BusEvent) -> None:
        service = service_of(event.source)
        key = f"{service}.{event.type}"
        if len(key.encode()) > _KEY_BYTES_MAX:
            reason = f"its routing key {key[:50]!r}... has more than {_KEY_BYTES_MAX} bytes"
            raise ConfigurationError(subject=f"event {event.type[:50]!r}", reason=reason)
        message = Message(
            encode(event),
            content_type=CONTENT_TYPE,
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=f"{event.epoch}/{event.position}",
            timestamp=_EPOCH + timedelta(microseconds=event.time),
            type=event.type,
            app_id=service,
        )
        with self._broker.faults():
            try:
                await exchange.publish(
                    message, key, mandatory=self._declared.mandatory, timeout=ANSWER_S_MAX
                )
            except PublishError:
                reason = (
                    f"no queue is bound to exchange {self._declared.exchange!r} for {key!r}: bind "
                    "one, or declare the publisher without mandatory"
                )
                raise self._broker.unavailable(reason) from None
            except DeliveryError as error:
                raise self._broker.unavailable(f"it does not take {key!r}: {error}") from None

    async def stored(self, source: str, epoch: str) -> dict[int, int]:  # noqa: ARG002
        """See `EventBus.stored`: who takes the messages from the queues is not known."""
        return {}

    async def end(self) -> dict[int, int]:
        """Return if the exchange can be reached.

        Raises:
            StoreUnavailable: it cannot.
        """
        await self._opened()
        return {}

    async def _opened(self) -> AbstractExchange:
        if self._exchange is not None and self._channel is not None and not self._channel.is_closed:
            return self._exchange
        await self.close()
        connection = self._connection = await self._broker.connect(self._called)
        with self._broker.faults():
            try:
                self._channel = channel = await self._opened_channel(connection)
                exchange = await channel.get_exchange(self._declared.exchange)
            except ChannelNotFoundEntity:
                self._channel = channel = await self._opened_channel(connection)
                exchange = await channel.declare_exchange(
                    self._declared.exchange, ExchangeType.TOPIC, durable=True, timeout=ANSWER_S_MAX
                )
        self._exchange = exchange
        return exchange

    async def _opened_channel(self, connection: AbstractConnection) -> AbstractChannel:
        async with asyncio.timeout(ANSWER_S_MAX):
            return await connection.channel(publisher_confirms=True, on_return_raises=True)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection, self._exchange = self._connection, None, None
        self._channel = None
        if connection is not None:
            await close(connection)


class _Publisher:
    """A relay to an exchange, which closes its connection at the end."""

    def __init__(self, relay: Relay, exchange: Exchange) -> None:
        self.name = relay.name
        self._relay = relay
        self._exchange = exchange

    @property
    def failure(self) -> str:
        """See `Relay.failure`."""
        return self._relay.failure

    async def start(self) -> None:
        """See `Relay.start`."""
        await self._relay.start()

    async def stop(self) -> None:
        """See `Relay.stop`."""
        await self._relay.stop()
        await self._exchange.close()

    async def status(self) -> RelayStatus:
        """See `Relay.status`."""
        return await self._relay.status()


def publishers_of(declared: AmqpPublisher, parts: Parts) -> list[Bridge]:
    """Return what publishes the events of a service, one for each log of its store.

    Raises:
        ConfigurationError: the broker is not named, or wrongly; or the service has no events.
    """
    subject = f"AmqpPublisher({declared.exchange!r}) of service {parts.service!r}"
    if parts.store is None:
        reason = "publishes the events of the service, which has no aggregates: leave it out"
        raise ConfigurationError(subject=subject, reason=reason)
    broker = broker_of(parts.url, wanted_by=subject)
    running: list[Bridge] = []
    for shard, log in enumerate(parts.store.shards):
        name = log_name(declared.name, shard)
        exchange = Exchange(declared, broker, called=f"{parts.owner} {name}")
        relay = Relay(
            log,
            exchange,
            name=log_name(parts.service, shard),
            epoch=parts.store.epoch,
            views=parts.views,
            owner=parts.owner,
            settings=parts.settings,
            called=name,
            start=declared.start,
        )
        running.append(_Publisher(relay, exchange))
    return running


__all__ = ["CONTENT_TYPE", "Exchange", "publishers_of"]
