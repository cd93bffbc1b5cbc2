"""Event bus: events between services."""

from headwater.eventbus.api import (
    WATERMARK,
    BusEvent,
    Delivery,
    EventBus,
    partition_of,
    watermark,
)
from headwater.eventbus.engine import EventBusEngine
from headwater.eventbus.types import EventType

__all__ = [
    "WATERMARK",
    "BusEvent",
    "Delivery",
    "EventBus",
    "EventBusEngine",
    "EventType",
    "partition_of",
    "watermark",
]
