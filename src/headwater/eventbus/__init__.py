"""Event bus: events between services."""

from headwater.eventbus.api import BusEvent, Delivery, EventBus, partition_of
from headwater.eventbus.engine import EventBusEngine
from headwater.eventbus.types import EventType

__all__ = ["BusEvent", "Delivery", "EventBus", "EventBusEngine", "EventType", "partition_of"]
