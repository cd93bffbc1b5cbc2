"""Bridges: what connects a service with brokers that other programs use, beside the event bus."""

from headwater.bridges.amqp.declarations import AmqpPublisher, AmqpQueue
from headwater.bridges.api import Bridge, Parts, Publishing, QueueOfOthers

__all__ = ["AmqpPublisher", "AmqpQueue", "Bridge", "Parts", "Publishing", "QueueOfOthers"]
