"""What a service consists of, as its author lists it; nothing of it runs."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from headwater.bridges import Publishing
from headwater.messages import Command, Query
from headwater.modelling import Aggregate, DecisionModel
from headwater.modelling.query_handlers import query_handlers_of
from headwater.modelling.state import aggregate_type, model_type
from headwater.processing.scheduling import Recurring


class Declaration:
    """The parts of a service.

    Attributes:
        name: its name in the system.
        aggregates, decisions, sagas: classes.
        projections, handlers: objects; ``given`` are the classes or objects they were given as.
        publishers: where events go besides the event bus.
        routes: further Litestar route handlers.
        scheduling: whether commands can be sent later.
        recurring: the commands that are sent again and again, by name.
        tasks: the functions that run in one instance at a time, by name.
    """

    def __init__(
        self,
        name: str,
        *,
        aggregates: Sequence[type[Aggregate]] = (),
        decisions: Sequence[type[DecisionModel]] = (),
        projections: Sequence[Any] = (),
        sagas: Sequence[type[Any]] = (),
        handlers: Sequence[Any] = (),
        publishers: Sequence[Publishing] = (),
        routes: Sequence[Any] = (),
        scheduling: bool = False,
    ) -> None:
        """List them; classes of projections and handlers are instantiated."""
        self.name = name
        self.aggregates: tuple[type[Aggregate], ...] = tuple(aggregates)
        self.decisions: tuple[type[DecisionModel], ...] = tuple(decisions)
        self.given: tuple[Any, ...] = (*projections, *handlers)
        self.projections: tuple[Any, ...] = tuple(
            p() if isinstance(p, type) else p for p in projections
        )
        self.sagas: tuple[type[Any], ...] = tuple(sagas)
        self.handlers: tuple[Any, ...] = tuple(h() if isinstance(h, type) else h for h in handlers)
        self.publishers: tuple[Publishing, ...] = tuple(publishers)
        self.routes: tuple[Any, ...] = tuple(routes)
        self.scheduling = scheduling
        self.recurring: dict[str, Recurring] = {}
        self.tasks: dict[str, Callable[[], Awaitable[None]]] = {}

    def contract(self) -> tuple[list[type[Command]], list[type[Query[Any]]]]:
        """Return the commands and queries of the whole service, whatever an instance's role."""
        kinds = [aggregate_type(aggregate) for aggregate in self.aggregates]
        kinds += [model_type(model) for model in self.decisions]
        commands = [command for kind in kinds for command in kind.commands]
        answering = (*self.projections, *self.handlers)
        return commands, [query for one in answering for query in query_handlers_of(one)]


def task_name(name: str) -> str:
    """Return under which name a background task is claimed, counted and told of."""
    return f"background-{name}"
