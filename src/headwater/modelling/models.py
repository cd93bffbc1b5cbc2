"""Decision models: loading them, and command handlers that stand on a model alone."""

import asyncio
from collections.abc import Mapping
from typing import Any

from headwater.dispatch import CommandMessage, CommandNext, CommandResult
from headwater.errors import ConditionFailed, ConfigurationError, HeadwaterError
from headwater.eventstore import (
    EVERYTHING,
    AppendCondition,
    EventFilter,
    EventStore,
    FilterItem,
    StreamWrite,
)
from headwater.messages import Command, ConsistencyToken
from headwater.modelling.declarations import CommandHandler, events_of
from headwater.modelling.encoding import (
    Admission,
    Admit,
    first_outcome,
    idempotency_of,
    new_events,
)
from headwater.modelling.state import (
    Aggregate,
    DecisionModel,
    aggregate_type,
    check_id,
    model_type,
)


async def load_models(
    store: EventStore, models: tuple[type[DecisionModel], ...], command: Command
) -> tuple[tuple[Any, ...], AppendCondition]:
    """Return the models' states for a command, and the condition that keeps them true.

    All are read up to one position: the condition excludes any event inside any of the
    boundaries after it.
    """
    head = await store.head()
    states: list[Any] = []
    items: list[FilterItem] = []
    everything = False
    for model in models:
        kind = model_type(model)
        boundary = model.boundary(command)
        fields = {field: getattr(command, field) for field, _ in kind.tag_fields}
        state = model(**fields)
        async for page in store.read(filter=boundary, until=head):
            kind.replay(state, page.events)
        states.append(state)
        items.extend(boundary.items)
        everything = everything or not boundary.items
    combined = EVERYTHING if everything else EventFilter(tuple(items))
    return tuple(states), AppendCondition(combined, head)


def check_shardable(cls: type[Aggregate] | type[DecisionModel]) -> None:
    """Check that commands are decided by one stream alone, as a sharded store needs.

    Raises:
        ConfigurationError: it is a decision model, or an aggregate whose handlers ask for some.
    """
    if issubclass(cls, Aggregate):
        kind = aggregate_type(cls)
        models = {m.__name__: None for h in kind.commands.values() for m in h.models}
        subject, needs = f"aggregate {kind.name!r}", f"decides by {', '.join(models)}"
    else:
        models = {cls.__name__: None}
        subject, needs = f"decision model {cls.__name__!r}", "is decided by a boundary of tags"
    if models:
        reason = (
            f"{needs}, whose events are in many streams, and the event store is spread over "
            "several databases, which have no order in common: use one database, or let one "
            "stream decide"
        )
        raise ConfigurationError(subject=subject, reason=reason)


class DecisionHandlers:
    """Carries out the commands whose handlers are methods of a decision model.

    Their events go to the stream ``<Model>/<target of the command>``; what guards them is the
    boundary, not the stream's version.
    """

    def __init__(
        self,
        model: type[DecisionModel],
        store: EventStore,
        *,
        source: str,
        attempts: int = 25,
        admit: Admit | None = None,
    ) -> None:
        """Serve one decision model; arguments as for `Repository`."""
        self._model = model
        self._type = model_type(model)
        self._store = store
        self._source = source
        self._attempts = attempts
        self._admission = Admission(admit)

    def handlers(self) -> Mapping[type[Command], CommandNext]:
        """Return a function for each command type, for the command bus."""
        return {command: self._bound(handler) for command, handler in self._type.commands.items()}

    def _bound(self, handler: CommandHandler) -> CommandNext:
        async def handle(message: CommandMessage) -> CommandResult:
            for attempt in range(1, self._attempts):
                try:
                    return await self._attempt(handler, message)
                except ConditionFailed:
                    await asyncio.sleep(0.001 * (attempt - 1))
            return await self._attempt(handler, message)

        return handle

    async def _attempt(self, handler: CommandHandler, message: CommandMessage) -> CommandResult:
        command = message.command
        id = handler.command.target_of(command)
        check_id(self._type.name, id)
        wanted = (self._model, *handler.models)
        (state, *models), condition = await load_models(self._store, wanted, command)
        try:
            events = events_of(handler.function(state, command, *models))
        except HeadwaterError:
            before = await first_outcome(self._store, message)
            if before is None:
                raise
            appended = before
        else:
            writes = []
            if events:
                self._admission.check(events)
                stream = self._type.stream(id)
                writes.append(StreamWrite(stream, new_events(events, message.metadata)))
            appended = await self._store.append(
                writes, condition=condition, idempotency=idempotency_of(message)
            )
        token = ConsistencyToken.text_at(self._source, self._store.epoch, appended.last)
        version = appended.versions[0] if appended.versions else 0
        return CommandResult(id, version, token, appended.duplicate)
