"""Processing: processors, projections, sagas, relay, dead letters, replay and rebuild."""

from headwater.modelling.policies import Retry
from headwater.processing.admin import (
    GenerationStatus,
    ProcessorAdmin,
    ProcessorStatus,
    Retried,
    SegmentStatus,
)
from headwater.processing.applier import Applier, Gone, Outbox
from headwater.processing.bus_source import BusSource
from headwater.processing.dead_letters import DeadLetter, processors_with_letters
from headwater.processing.declarations import (
    EventHandlers,
    Projection,
    ViewReader,
    event_handler,
)
from headwater.processing.message import EventMessage
from headwater.processing.processor import Processor
from headwater.processing.rebuild import RebuildProgress, rebuild
from headwater.processing.relay import Relay, RelayStatus, relays_of
from headwater.processing.saga_processor import SagaProcessor, saga_applier
from headwater.processing.settings import ProcessorSettings
from headwater.processing.sources import Source, StoreSource
from headwater.processing.status import (
    BusyStatus,
    LaneStatus,
    LocalStatus,
    SagaStatus,
    WaitingStatus,
)
from headwater.processing.travel import view_at

__all__ = [
    "Applier",
    "BusSource",
    "BusyStatus",
    "DeadLetter",
    "EventHandlers",
    "EventMessage",
    "GenerationStatus",
    "Gone",
    "LaneStatus",
    "LocalStatus",
    "Outbox",
    "Processor",
    "ProcessorAdmin",
    "ProcessorSettings",
    "ProcessorStatus",
    "Projection",
    "RebuildProgress",
    "Relay",
    "RelayStatus",
    "Retried",
    "Retry",
    "SagaProcessor",
    "SagaStatus",
    "SegmentStatus",
    "Source",
    "StoreSource",
    "ViewReader",
    "WaitingStatus",
    "event_handler",
    "processors_with_letters",
    "rebuild",
    "relays_of",
    "saga_applier",
    "view_at",
]
