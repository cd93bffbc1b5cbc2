"""Event bus: events between services."""

from headwater.eventbus.api import BusEvent, Delivery, EventBus, partition_of
from headwater.eventbus.types import EventType

__all__ = ["BusEvent", "Delivery", "EventBus", "EventType", "partition_of"]
