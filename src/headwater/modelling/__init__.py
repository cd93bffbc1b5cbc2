"""Modelling: aggregates, decision models, the repository, and sagas."""

from headwater.modelling.declarations import Events, command_handler, event_sourcing_handler
from headwater.modelling.models import DecisionHandlers
from headwater.modelling.repository import Repository, StateAt
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
    "DecisionHandlers",
    "DecisionModel",
    "EventSourced",
    "Events",
    "Repository",
    "StateAt",
    "aggregate_type",
    "command_handler",
    "event_sourcing_handler",
    "model_type",
    "split_stream",
]
