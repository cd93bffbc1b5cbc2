"""The views that processors keep for themselves, beside those of the service."""

from headwater.processing.handling.dead_letters import DeadLetter
from headwater.processing.running.claims import ProcessorMember
from headwater.processing.running.pausing import ProcessorPause
from headwater.processing.sagas.views import PendingCommand, SagaDeadline, SagaState
from headwater.processing.scheduling.views import ScheduledCommand

INTERNAL_VIEWS = (
    DeadLetter,
    PendingCommand,
    ProcessorMember,
    ProcessorPause,
    SagaDeadline,
    SagaState,
    ScheduledCommand,
)
