"""Processing: processors, projections, sagas, relay, dead letters, replay and rebuild."""

from headwater.processing.admin import (
    GenerationStatus,
    ProcessorAdmin,
    ProcessorStatus,
    Retried,
    SegmentStatus,
)
from headwater.processing.applier import Applier
from headwater.processing.bus_source import BusSource
from headwater.processing.dead_letters import DeadLetter
from headwater.processing.declarations import (
    EventHandlers,
    Projection,
    ViewReader,
    event_handler,
)
from headwater.processing.message import EventMessage
from headwater.processing.processor import LaneStatus, LocalStatus, Processor
from headwater.processing.rebuild import RebuildProgress, rebuild
from headwater.processing.relay import Relay, RelayStatus, relays_of
from headwater.processing.saga_processor import SagaProcessor, saga_applier
from headwater.processing.sagas import SagaStatus
from headwater.processing.settings import ProcessorSettings
from headwater.processing.sources import Source, StoreSource
from headwater.processing.travel import view_at

__all__ = [
    "Applier",
    "BusSource",
    "DeadLetter",
    "EventHandlers",
    "EventMessage",
    "GenerationStatus",
    "LaneStatus",
    "LocalStatus",
    "Processor",
    "ProcessorAdmin",
    "ProcessorSettings",
    "ProcessorStatus",
    "Projection",
    "RebuildProgress",
    "Relay",
    "RelayStatus",
    "Retried",
    "SagaProcessor",
    "SagaStatus",
    "SegmentStatus",
    "Source",
    "StoreSource",
    "ViewReader",
    "event_handler",
    "rebuild",
    "relays_of",
    "saga_applier",
    "view_at",
]
