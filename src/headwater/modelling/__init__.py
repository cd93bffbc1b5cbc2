"""Modelling: aggregates, decision models, the repository, and sagas."""

from headwater.modelling.declarations import Events, command_handler, event_sourcing_handler
from headwater.modelling.models import DecisionHandlers
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
    "EventSourced",
    "Events",
    "Repository",
    "Saga",
    "SagaType",
    "StateAt",
    "aggregate_type",
    "command_handler",
    "deadline_handler",
    "event_sourcing_handler",
    "model_type",
    "rejection_handler",
    "saga_handler",
    "saga_type",
    "split_stream",
]
