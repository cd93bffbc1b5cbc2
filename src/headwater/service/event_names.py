"""Which class each event name of a service belongs to."""

from collections.abc import Callable, Iterator
from typing import Any, get_args

import msgspec

from headwater.errors import ConfigurationError, DeclarationError
from headwater.eventbus import EventBus, EventType
from headwater.messages import Event, message_type
from headwater.messages.inheritance import annotations_of, known_events, qualified, same_wire_name
from headwater.modelling import Saga
from headwater.modelling.foreign import kind_of
from headwater.modelling.handler_tables import handler_table
from headwater.modelling.saga import SagaType, saga_type
from headwater.modelling.state import StateType, aggregate_type, model_type
from headwater.service.declaration import Declaration


class EventNames:
    """The events of a service: which class each wire name belongs to.

    Known are those that something handles, those that derive from them, and those that command
    handlers say they return. Any other is known from the time it is first decided.

    Attributes:
        own: those that aggregates and decision models decide and are changed by.
    """

    def __init__(self, service: Declaration) -> None:
        """Collect the events.

        Raises:
            DeclarationError: two have the same wire name, one is of another service, or one has
                two handlers that are equally near.
        """
        self._service = service.name
        self._owners: dict[tuple[str, str], type[Event]] = {}
        own, followed, foreign = _events(service)
        self._handled = {*followed, *foreign}
        for event in dict.fromkeys((*own, *followed, *foreign)):
            self._claim(event)
        for event in dict.fromkeys((*own, *followed)):
            self._check_owner(event)
        self._known = set(known_events((*own, *followed, *foreign)))
        for event in self._known:
            self._claim(event)
        self.own = known_events(own)
        _compile(service)

    def class_of(self, name: str) -> type[Event] | None:
        """Return the class of the service's own events of a wire name, as far as it is known."""
        return self._owners.get(("", name))

    def admit(self, event: type[Event]) -> None:
        """Check a class of events that is about to be stored for the first time.

        Raises:
            DeclarationError: its wire name belongs to another class, it is of another service, or
                it was defined after the service had started, and handlers do not know it.
        """
        self._claim(event)
        self._check_owner(event)
        if event in self._known:
            return
        base = next((cls for cls in event.__mro__ if cls in self._handled), None)
        if base is not None:
            raise DeclarationError(
                subject=qualified(event),
                reason=f"was defined after service {self._service!r} had started, whose handlers "
                f"of {qualified(base)} would not see it: import its module before",
            )
        self._known.add(event)

    async def announce(self, bus: EventBus) -> None:
        """Tell a bus which types of events the service publishes.

        Raises:
            ConfigurationError: another service publishes another type under the name of one.
            StoreUnavailable: the bus is away.
        """
        types = [_event_type(event, self._service) for event in self.own]
        for one, other in await bus.announce(self._service, types):
            raise ConfigurationError(
                subject=one.declared,
                reason=f"service {other.source!r} publishes {other.declared}, which has other "
                f"fields, under the same name, {one.name!r}: give one of the two another one, "
                f'@wire("AnotherName"), or let each say which service it is of, '
                f"@wire({one.name!r}, source={one.source!r})",
            )

    def _claim(self, event: type[Event]) -> None:
        kind = message_type(event)
        owner = "" if kind.source == self._service else kind.source
        for name in kind.names:
            other = self._owners.setdefault((owner, name), event)
            if other is not event:
                error = same_wire_name(event, other, name)
                remedy = f'or, if one is of another service, say so: @wire({name!r}, source="...")'
                raise error.replaced(reason=f"{error.reason}, {remedy}")

    def _check_owner(self, event: type[Event]) -> None:
        source = message_type(event).source
        if source not in ("", self._service):
            raise DeclarationError(
                subject=qualified(event),
                reason=f"is of service {source!r} (@wire(source={source!r})), so that it is not in "
                f"the event store of service {self._service!r}: handle it from the bus, "
                'source = "bus" (saga_source = "bus"), or, if it is this service\'s own, say so: '
                f"@wire(source={self._service!r})",
            )


def _events(
    service: Declaration,
) -> tuple[list[type[Event]], list[type[Event]], list[type[Event]]]:
    """Return the events of aggregates, those followed in the store, and those from the bus."""
    kinds = list(state_types(service))
    kinds += [model_type(m) for kind in kinds for h in kind.commands.values() for m in h.models]
    own = [event for kind in kinds for event in kind.handlers]
    own += [e for kind in kinds for h in kind.commands.values() for e in _returned(h.function)]
    followed: dict[str, list[type[Event]]] = {"store": [], "bus": [], "foreign": []}
    for handlers in (*service.projections, *service.handlers):
        followed[kind_of(handlers.source)] += handler_table(type(handlers)).events
    for saga in saga_types(service):
        followed[saga.cls.saga_source] += saga.events
    return own, followed["store"], followed["bus"]


def _returned(function: Callable[..., Any]) -> Iterator[type[Event]]:
    """Yield the event types that a function says it returns."""
    waiting = [annotations_of(function).get("return")]
    while waiting:
        hint = waiting.pop()
        if isinstance(hint, type) and issubclass(hint, Event) and hint is not Event:
            yield hint
        waiting += get_args(hint)


def _event_type(event: type[Event], service: str) -> EventType:
    kind = message_type(event)
    fields = msgspec.structs.fields(event)
    return EventType(
        name=kind.name,
        source=service,
        declared=qualified(event),
        fields={field.encode_name: _schema(field.type) for field in fields},
        required=tuple(field.encode_name for field in fields if field.required),
        bound=bool(kind.source),
    )


def _schema(hint: Any) -> str:
    try:
        schema = msgspec.json.schema(hint, schema_hook=lambda cls: {"type": qualified(cls)})
    except TypeError:  # a type of its own has no schema, but its name will do
        return repr(hint)
    return msgspec.json.encode(schema, order="deterministic").decode()


def _compile(service: Declaration) -> None:
    """Let every handler's tables be built, which refuses what is ambiguous.

    Raises:
        DeclarationError: an event has two handlers that are equally near.
    """
    for kind in state_types(service):
        kind.refresh()
    for handlers in (*service.projections, *service.handlers):
        table = handler_table(type(handlers))
        for event in known_events(table.events):
            table.of(event)
    for saga in saga_types(service):
        for event in known_events(saga.events):
            saga.event_handler(event)


def state_types(service: Declaration) -> Iterator[StateType]:
    """Yield what is known of the aggregates and decision models of a service."""
    yield from map(aggregate_type, service.aggregates)
    yield from map(model_type, service.decisions)


def saga_types(service: Declaration) -> list[SagaType]:
    """Return what is known of the sagas of a service."""
    sagas: tuple[type[Saga], ...] = service.sagas
    return [saga_type(saga) for saga in sagas]
