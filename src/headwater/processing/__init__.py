"""Processing: processors, projections, sagas, relay, dead letters, replay and rebuild."""

from headwater.processing.bus_source import BusSource
from headwater.processing.declarations import (
    EventHandlers,
    Projection,
    ViewReader,
    event_handler,
)
from headwater.processing.message import EventMessage
from headwater.processing.processor import LaneStatus, LocalStatus, Processor
from headwater.processing.settings import ProcessorSettings
from headwater.processing.sources import Source, StoreSource

__all__ = [
    "BusSource",
    "EventHandlers",
    "EventMessage",
    "LaneStatus",
    "LocalStatus",
    "Processor",
    "ProcessorSettings",
    "Projection",
    "Source",
    "StoreSource",
    "ViewReader",
    "event_handler",
]
