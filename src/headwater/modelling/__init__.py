"""Modelling: what authors declare (aggregates, models, projections, sagas), and the repository."""

from headwater.modelling.declarations import Events, command_handler, event_sourcing_handler
from headwater.modelling.event_handlers import (
    EventHandlers,
    Projection,
    ViewReader,
    event_handler,
)
from headwater.modelling.event_message import EventMessage
from headwater.modelling.models import DecisionHandlers
from headwater.modelling.policies import Retry
from headwater.modelling.query_handlers import query_handler
from headwater.modelling.repository import Repository, StateAt
from headwater.modelling.saga import (
    Cancel,
    Deadline,
    Effect,
    Effects,
    End,
    Saga,
    SagaType,
    deadline_handler,
    rejection_handler,
    saga_handler,
    saga_type,
)
from headwater.modelling.state import (
    Aggregate,
    DecisionModel,
    EventSourced,
    aggregate_type,
    model_type,
    split_stream,
)

__all__ = [
    "Aggregate",
    "Cancel",
    "Deadline",
    "DecisionHandlers",
    "DecisionModel",
    "Effect",
    "Effects",
    "End",
    "EventHandlers",
    "EventMessage",
    "EventSourced",
    "Events",
    "Projection",
    "Repository",
    "Retry",
    "Saga",
    "SagaType",
    "StateAt",
    "ViewReader",
    "aggregate_type",
    "command_handler",
    "deadline_handler",
    "event_handler",
    "event_sourcing_handler",
    "model_type",
    "query_handler",
    "rejection_handler",
    "saga_handler",
    "saga_type",
    "split_stream",
]
