"""Tests of decisions: ``given(Account, events...).when(command).then(events...)``.

Nothing is stored and nothing waits: the handler is called with the state that the given events
lead to, under the same rules as in a service. Every event passes through its stored form, so that
one that cannot be stored, or comes back different, fails the test.
"""

import difflib
from collections.abc import Iterable
from typing import Any, Self, TypeVar

import msgspec

from headwater.errors import (
    AggregateExists,
    AggregateNotFound,
    DeclarationError,
    EventUnreadable,
    HeadwaterError,
    Unstorable,
)
from headwater.eventstore import EventFilter, NewEvent, StoredEvent
from headwater.messages import Command, Event, message_type, new_metadata
from headwater.messages.codec import EventCodec, message_form
from headwater.modelling import Aggregate, DecisionModel
from headwater.modelling.declarations import CommandHandler, events_of
from headwater.modelling.state import StateType, aggregate_type, model_type

E = TypeVar("E", bound=HeadwaterError)
Subject = type[Aggregate] | type[DecisionModel]


class Given:
    """What has happened before; ends with `when`."""

    def __init__(self, subject: Subject) -> None:
        """Begin with nothing; use `headwater.testing.given`."""
        self._subject = subject
        self._events: list[tuple[Event, bool]] = []

    def and_given(self, *events: Event) -> Self:
        """Add further events of the aggregate's own stream."""
        self._events += [(event, True) for event in events]
        return self

    def elsewhere(self, *events: Event) -> Self:
        """Add events of other streams: an aggregate sees them through decision models only."""
        self._events += [(event, False) for event in events]
        return self

    def when(self, command: Command) -> "Decided":
        """Decide a command and return what came out.

        Raises:
            DeclarationError: the class under test has no handler for the command.
            AssertionError: the handler changed the state, or an event does not survive storing.
        """
        kind = _type_of(self._subject)
        handler = kind.commands.get(type(command))
        if handler is None:
            known = ", ".join(c.__name__ for c in kind.commands) or "none"
            raise DeclarationError(
                subject=f"given({self._subject.__name__}).when({type(command).__name__})",
                reason=f"no command handler for it; handled are: {known}",
            )
        state: Any = None
        try:
            message_form(type(command)).validate(command)
            state = self._state(self._subject, command)
            before = _picture(state)
            decided = self._decide(handler, state, command)
        except HeadwaterError as error:
            return Decided(command, (), error, state)
        if _picture(state) != before:
            msg = (
                f"{handler.function.__qualname__} changed the state: return events, and change "
                "the state in event-sourcing handlers"
            )
            raise AssertionError(msg)
        kind.replay(state, _stored(decided))
        return Decided(command, decided, None, state)

    def _decide(self, handler: CommandHandler, state: Any, command: Command) -> tuple[Event, ...]:
        if isinstance(state, Aggregate):
            exists = any(own for _, own in self._events)
            name = aggregate_type(type(state)).name
            if exists and handler.creates is True:
                raise AggregateExists(aggregate=name, id=state.id)
            if not exists and handler.creates is False:
                raise AggregateNotFound(aggregate=name, id=state.id)
        models = [self._state(model, command) for model in handler.models]
        return events_of(handler.function(state, command, *models))

    def _state(self, subject: Subject, command: Command) -> Any:
        if issubclass(subject, Aggregate):
            state: Any = subject(id=message_type(type(command)).target_of(command))
            own = [event for event, own in self._events if own]
            aggregate_type(subject).replay(state, _stored(own))
            return state
        kind = model_type(subject)
        state = kind.begin(command)
        kind.replay(state, _inside(subject.boundary(command), [e for e, _ in self._events]))
        return state


class Decided:
    """What came out of a command. Each ``then`` checks one thing and returns the outcome."""

    def __init__(
        self,
        command: Command,
        events: tuple[Event, ...],
        error: HeadwaterError | None,
        state: Any,
    ) -> None:
        """Keep what happened; use `Given.when`."""
        self.command = command
        self.events = events
        self.error = error
        self.state = state

    def then(self, *events: Event) -> Self:
        """Expect exactly these events, in this order.

        Raises:
            AssertionError: it came out otherwise; the message shows the difference.
        """
        if self.error is not None:
            msg = f"{self.command!r} was refused: {self.error}"
            raise AssertionError(msg) from self.error
        if self.events != events:
            raise AssertionError(_difference(self.command, events, self.events))
        return self

    def then_nothing(self) -> Self:
        """Expect that the command was accepted and changed nothing."""
        return self.then()

    def then_rejected(self, error: type[E], **fields: Any) -> E:
        """Expect a refusal of this class, with these values in its fields; return it.

        Raises:
            AssertionError: it came out otherwise.
        """
        wanted = f"{self.command!r} should have been refused with {error.__name__}"
        if self.error is None:
            came = "".join(f"\n  {event!r}" for event in self.events) or " no events"
            msg = f"{wanted}, decided were{came}"
            raise AssertionError(msg)
        if not isinstance(self.error, error):
            msg = f"{wanted}, came {type(self.error).__name__}: {self.error}"
            raise AssertionError(msg) from self.error  # noqa: TRY004 - a test's verdict
        actual = {name: getattr(self.error, name, None) for name in fields}
        if actual != fields:
            msg = f"{wanted} and {fields}, its fields are {self.error.fields()}"
            raise AssertionError(msg) from self.error
        return self.error

    def then_state(self, **fields: Any) -> Self:
        """Expect these values in the state that the new events lead to.

        Raises:
            AssertionError: a field has another value.
        """
        if self.error is not None:
            msg = f"{self.command!r} was refused: {self.error}"
            raise AssertionError(msg) from self.error
        actual = {name: getattr(self.state, name) for name in fields}
        if actual != fields:
            msg = f"after {self.command!r} the state has {actual}, expected {fields}"
            raise AssertionError(msg)
        return self


def _picture(state: Any) -> bytes | str:
    try:
        return msgspec.json.encode(state)
    except (TypeError, ValueError):  # a state need not have a form in JSON
        return repr(state)


def _type_of(subject: Subject) -> StateType:
    return aggregate_type(subject) if issubclass(subject, Aggregate) else model_type(subject)


def _stored(events: Iterable[Event]) -> list[StoredEvent]:
    stored = []
    for position, event in enumerate(events, 1):
        codec = EventCodec([type(event)])
        try:
            new = NewEvent.of(event, new_metadata())
            back = codec.decode(new.type, new.type_version, new.data)
        except (Unstorable, EventUnreadable) as error:
            msg = f"{event!r} cannot be stored and read again: {error}"
            raise AssertionError(msg) from error
        if back != event:
            msg = f"stored and read again, {event!r} is {back!r}"
            raise AssertionError(msg)
        stored.append(
            StoredEvent(
                position=position,
                stream="given",
                version=position,
                type=new.type,
                type_version=new.type_version,
                time=0,
                tags=new.tags,
                data=new.data,
                metadata=new.metadata,
            )
        )
    return stored


def _inside(boundary: EventFilter, events: Iterable[Event]) -> list[StoredEvent]:
    return [event for event in _stored(events) if boundary.matches(event.type, event.tags)]


def _difference(command: Command, expected: Iterable[Event], actual: Iterable[Event]) -> str:
    lines = difflib.ndiff([repr(e) for e in expected], [repr(e) for e in actual])
    listed = "\n".join(f"  {line.rstrip()}" for line in lines)
    return f"{command!r} decided otherwise (- expected, + decided):\n{listed}"
