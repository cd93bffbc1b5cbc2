"""Processing: processors, sagas, scheduled commands, the relay, dead letters, replay, rebuild."""

from headwater.processing.admin import (
    GenerationStatus,
    ProcessorAdmin,
    ProcessorStatus,
    Retried,
    SegmentStatus,
)
from headwater.processing.background import BackgroundStatus, BackgroundTask
from headwater.processing.handling.dead_letters import DeadLetter
from headwater.processing.moving import move_processor, move_relay
from headwater.processing.rebuild import RebuildProgress, rebuild
from headwater.processing.relay import Relay, RelayStatus
from headwater.processing.running.pausing import ProcessorPause
from headwater.processing.running.processor import Processor
from headwater.processing.running.status import (
    BusyStatus,
    LocalStatus,
    SagaStatus,
    SegmentGroupStatus,
    WaitingStatus,
)
from headwater.processing.sagas.processor import SagaProcessor
from headwater.processing.scheduling import Recurring, Schedule, Scheduled, ScheduleProcessor
from headwater.processing.settings import ProcessorSettings
from headwater.processing.sources.bus import BusSource
from headwater.processing.sources.source import Source
from headwater.processing.sources.store import StoreSource
from headwater.processing.time_travel import view_at

__all__ = [
    "BackgroundStatus",
    "BackgroundTask",
    "BusSource",
    "BusyStatus",
    "DeadLetter",
    "GenerationStatus",
    "LocalStatus",
    "Processor",
    "ProcessorAdmin",
    "ProcessorPause",
    "ProcessorSettings",
    "ProcessorStatus",
    "RebuildProgress",
    "Recurring",
    "Relay",
    "RelayStatus",
    "Retried",
    "SagaProcessor",
    "SagaStatus",
    "Schedule",
    "ScheduleProcessor",
    "Scheduled",
    "SegmentGroupStatus",
    "SegmentStatus",
    "Source",
    "StoreSource",
    "WaitingStatus",
    "move_processor",
    "move_relay",
    "rebuild",
    "view_at",
]
