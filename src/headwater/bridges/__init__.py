"""Bridges: what connects a service with brokers that other programs use, beside the event bus."""

from headwater.bridges.api import Parts, Publishing, QueueOfOthers, Running

__all__ = ["Parts", "Publishing", "QueueOfOthers", "Running"]
