"""Modelling: what authors declare (aggregates, models, projections, sagas), and the repository."""

from headwater.modelling.declarations import Events, command_handler, event_sourcing_handler
from headwater.modelling.event_handlers import (
    EventHandlers,
    Projection,
    ViewReader,
    event_handler,
)
from headwater.modelling.event_message import EventMessage
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
    deadline_handler,
    rejection_handler,
    saga_handler,
)
from headwater.modelling.state import (
    Aggregate,
    DecisionModel,
)

__all__ = [
    "Aggregate",
    "Cancel",
    "Deadline",
    "DecisionModel",
    "Effect",
    "Effects",
    "End",
    "EventHandlers",
    "EventMessage",
    "Events",
    "Projection",
    "Repository",
    "Retry",
    "Saga",
    "StateAt",
    "ViewReader",
    "command_handler",
    "deadline_handler",
    "event_handler",
    "event_sourcing_handler",
    "query_handler",
    "rejection_handler",
    "saga_handler",
]
