"""Decision models: loading them, and command handlers that stand on a model alone."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any

from headwater.dispatch import CommandMessage, CommandResult
from headwater.dispatch.api import KeyedHandler
from headwater.errors import (
    ConditionFailed,
    ConfigurationError,
    HeadwaterError,
)
from headwater.eventstore import (
    EVERYTHING,
    NOTHING,
    AppendCondition,
    Appended,
    EventFilter,
    EventStore,
    FilterItem,
    StoredEvent,
    StreamWrite,
)
from headwater.messages import Codec, Command, ConsistencyToken
from headwater.messages.sealing import opened_events
from headwater.modelling.declarations import CommandHandler, events_of
from headwater.modelling.encoding import (
    Admission,
    Admit,
    first_outcome,
    idempotency_of,
    new_events,
    sealed_events,
)
from headwater.modelling.state import (
    Aggregate,
    DecisionModel,
    aggregate_type,
    check_id,
    model_type,
)

_ITEMS_MAX = 16  # of a boundary, read together


async def load_models(
    store: EventStore,
    models: tuple[type[DecisionModel], ...],
    command: Command,
    *,
    codec: Codec | None = None,
) -> tuple[tuple[Any, ...], AppendCondition | None]:
    """Return the models' states for a command, and the condition that keeps them true.

    All are read up to one position: the condition excludes any event inside any of the
    boundaries after it. There is none when all boundaries are empty.
    """
    head = await store.head()
    states: list[Any] = []
    items: list[FilterItem] = []
    everything = False
    for model in models:
        kind = model_type(model)
        boundary = model.boundary(command)
        state = kind.begin(command)
        states.append(state)
        if boundary == NOTHING:
            continue
        async for events in _inside(store, boundary, head):
            kind.replay(state, opened_events(codec, events))
        items.extend(boundary.items)
        everything = everything or not boundary.items
    if not items and not everything:
        return tuple(states), None
    combined = EVERYTHING if everything else EventFilter(tuple(items))
    return tuple(states), AppendCondition(combined, head)


async def _inside(
    store: EventStore, boundary: EventFilter, head: int
) -> AsyncIterator[Sequence[StoredEvent]]:
    """Yield the events of a boundary up to a position, in order.

    Those of many items are read a part of the items at a time: each part comes from indexes, which
    stores may give up for all at once.
    """
    items = boundary.items
    if len(items) <= _ITEMS_MAX:
        async for page in store.read(filter=boundary, until=head):
            yield page.events
        return
    found: dict[int, StoredEvent] = {}
    for begin in range(0, len(items), _ITEMS_MAX):
        part = EventFilter(items[begin : begin + _ITEMS_MAX])
        async for page in store.read(filter=part, until=head):
            found.update((event.position, event) for event in page.events)
    yield [found[position] for position in sorted(found)]


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
        codec: Codec | None = None,
    ) -> None:
        """Serve one decision model; arguments as for `Repository`."""
        self._model = model
        self._type = model_type(model)
        self._store = store
        self._source = source
        self._attempts = attempts
        self._admission = Admission(admit)
        self._codec = codec

    def handlers(self) -> Mapping[type[Command], KeyedHandler]:
        """Return what handles each command type, for the command bus."""
        return {
            command: KeyedHandler(partial(self._handle, handler), partial(self._look_up, handler))
            for command, handler in self._type.commands.items()
        }

    async def _handle(self, handler: CommandHandler, message: CommandMessage) -> CommandResult:
        for attempt in range(1, self._attempts):
            try:
                return await self._attempt(handler, message)
            except ConditionFailed:
                await asyncio.sleep(0.001 * (attempt - 1))
        return await self._attempt(handler, message)

    async def _look_up(
        self,
        handler: CommandHandler,
        message: CommandMessage,
        *,
        settled: bool = False,
        refusal: HeadwaterError | None = None,
    ) -> CommandResult | None:
        id = handler.command.target_of(message.command)
        stream = self._type.stream(id)
        first = await first_outcome(self._store, message, stream, settled=settled, refusal=refusal)
        return None if first is None else self._result(id, first)

    async def _attempt(self, handler: CommandHandler, message: CommandMessage) -> CommandResult:
        command = message.command
        id = handler.command.target_of(command)
        check_id(self._type.name, id)
        wanted = (self._model, *handler.models)
        (state, *models), condition = await load_models(
            self._store, wanted, command, codec=self._codec
        )
        events = events_of(handler.function(state, command, *models))
        self._admission.check(events)
        stream = self._type.stream(id)
        new = sealed_events(self._codec, new_events(events, message.metadata), stream)
        writes = [StreamWrite(stream, new)] if new else []
        appended = await self._store.append(
            writes, condition=condition, idempotency=idempotency_of(message)
        )
        return self._result(id, appended)

    def _result(self, id: str, appended: Appended) -> CommandResult:
        token = ConsistencyToken.text_at(self._source, self._store.epoch, appended.last)
        version = appended.versions[0] if appended.versions else 0
        return CommandResult(id, version, token, appended.duplicate)
