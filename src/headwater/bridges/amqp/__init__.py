"""Exchanges and queues of AMQP 0-9-1, as RabbitMQ has them."""

from headwater.bridges.amqp.declarations import AmqpPublisher, AmqpQueue

__all__ = ["AmqpPublisher", "AmqpQueue"]
