"""The views that processors keep for themselves, beside those of the service."""

from headwater.processing.claims import ProcessorMember
from headwater.processing.dead_letters import DeadLetter
from headwater.processing.saga_views import PendingCommand, SagaDeadline, SagaState

INTERNAL_VIEWS = (DeadLetter, PendingCommand, ProcessorMember, SagaDeadline, SagaState)
