"""Event bus: events between services."""

from headwater.eventbus.api import BusEvent, Delivery, EventBus, partition_of

__all__ = ["BusEvent", "Delivery", "EventBus", "partition_of"]
