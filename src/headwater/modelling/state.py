"""Event-sourced state: what aggregates and decision models have in common."""

import functools
import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import msgspec

from headwater.errors import DeclarationError, InvalidInput
from headwater.eventstore import NOTHING, EventFilter, FilterItem, StoredEvent
from headwater.messages import Command, Event, message_type
from headwater.messages.codec import EventCodec
from headwater.messages.inheritance import known_events, nearest, qualified, same_wire_name
from headwater.messages.types import MessageMeta
from headwater.modelling.boundary import Boundary
from headwater.modelling.declarations import (
    CommandHandler,
    command_handlers_of,
    event_handlers_of,
)
from headwater.modelling.stored_state import StateForm, check_fields

Applier = Callable[[Any, Any], None]
_NO_SNAPSHOTS = ", or set snapshot_every = 0 (and snapshot_load_ms = 0), so that it is never stored"


class EventSourced(msgspec.Struct):
    """State that is nothing but the sum of its events; every field has a default."""


class Aggregate(EventSourced):
    """A consistency boundary around one stream: ``Account/7`` for the account with id 7.

    Fields are the state, and what a snapshot stores. ``id`` is set by the framework.

    Attributes:
        stream_name: what the stream is called; like the class when empty. It must never change.
        snapshot_every: a snapshot is taken whenever so many events came after the last one; 0
            for never.
        snapshot_load_ms: a snapshot is taken, too, when loading had to replay events and took
            longer than so many milliseconds; 0 for never.
        revision: raise it when the same events lead to another state than before, because a
            handler was corrected: snapshots of another revision are ignored.
    """

    id: str = ""
    stream_name: ClassVar[str] = ""
    snapshot_every: ClassVar[int] = 100
    snapshot_load_ms: ClassVar[float] = 0
    revision: ClassVar[int] = 1


class DecisionModel(EventSourced):
    """State over a dynamic consistency boundary: all events that carry any of some tags.

    Fields marked `Tag` draw the boundary; they take the value of the command's field of the same
    name, and have the tags that an event with that value has: one for each item of a list, none
    for None. Without any tag the decision depends on no event. What is decided on the model is
    stored only if no event inside the boundary was stored meanwhile. Override `boundary` for
    another selection; `Tag.of` makes the tags. See https://dcb.events.

    Class option: ``stream_name``, as of an `Aggregate`; for models that handle commands.
    """

    stream_name: ClassVar[str] = ""

    @classmethod
    def boundary(cls, command: Command) -> EventFilter:
        """Return which events the decision about a command depends on."""
        kind = model_type(cls)
        items = [FilterItem(kind.event_names, (tag,)) for tag in kind.boundary.tags(command)]
        return EventFilter(tuple(items)) if items else NOTHING


class StateType:
    """What is known about one class of event-sourced state, computed once.

    Attributes:
        cls: the class.
        name: the first part of its streams' names.
        commands: its command handlers by command type.
        handlers: its event-sourcing handlers by the event type that they declare.
        form: how its states are stored; None when they are not.
        fingerprint: identifies the shape of the state, its revision, and the versions of its
            events; a snapshot of another fingerprint is ignored.
    """

    def __init__(self, cls: type[EventSourced]) -> None:
        """Compile the class.

        Raises:
            DeclarationError: a field has no default, or a handler is declared wrongly.
        """
        required = [f.name for f in msgspec.structs.fields(cls) if f.required]
        if required:
            raise DeclarationError(
                subject=cls.__name__,
                reason=f"fields {required} need defaults: state begins before the first event",
            )
        self.cls = cls
        self.name = getattr(cls, "stream_name", "") or cls.__name__
        if "/" in self.name:
            raise DeclarationError(subject=cls.__name__, reason="a stream name contains no '/'")
        self.commands: dict[type[Command], CommandHandler] = command_handlers_of(cls, DecisionModel)
        self.handlers: dict[type[Event], Applier] = event_handlers_of(cls)
        self._compile()
        self.form, self.fingerprint = self._form(), ""
        if self.form is not None:
            self.fingerprint = self._fingerprint()

    def _form(self) -> StateForm | None:
        """Return how states are stored; None when they need not and cannot be."""
        cls: Any = self.cls
        needed = issubclass(cls, Aggregate) and (cls.snapshot_every or cls.snapshot_load_ms)
        try:
            check_fields(cls, remedy=_NO_SNAPSHOTS)
        except DeclarationError:
            if needed:
                raise
            return None
        return StateForm(cls)

    def _fingerprint(self) -> str:
        """Identify the shape of the state, and what is declared about how it comes about."""
        cls: Any = self.cls
        revision = getattr(cls, "revision", 1)  # or a field, property or the like of that name
        declared = [
            msgspec.json.schema(cls),
            revision if isinstance(revision, int | str) else 1,
            EventCodec(self.handlers).versions,  # derived events may be defined later
        ]
        text = msgspec.json.encode(declared, order="deterministic")
        return hashlib.blake2b(text, digest_size=8).hexdigest()

    def _compile(self) -> None:
        """Build the tables of the events that are known by now, derived ones included."""
        self._as_of = MessageMeta.changes
        events = known_events(self.handlers)
        subject = qualified(self.cls)
        self._appliers: dict[type[Event], Applier] = {
            event: self.handlers[declared]
            for event in events
            if (declared := nearest(event, self.handlers, subject=subject)) is not None
        }
        self.codec = EventCodec(events)
        self._stored: dict[str, tuple[int, Callable[[bytes], Event], Applier]] = {
            name: (kind.version, msgspec.json.Decoder(kind.cls).decode, self._appliers[kind.cls])
            for kind in map(message_type, events)
            for name in kind.names
        }

    def refresh(self) -> bool:
        """Build the tables anew if events were defined since; return whether that was so."""
        if self._as_of == MessageMeta.changes:
            return False
        self._compile()
        return True

    @property
    def events(self) -> tuple[type[Event], ...]:
        """The event types that change the state, derived ones included as far as defined by now."""
        return known_events(self.handlers)

    @property
    def event_names(self) -> tuple[str, ...]:
        """The wire names of the events that change the state, and of those that became some."""
        self.refresh()
        return self.codec.names

    def stream(self, id: str) -> str:
        """Return the name of the stream of one id."""
        return f"{self.name}/{id}"

    def apply(self, state: Any, event: Event) -> None:
        """Change the state by one new event; an event without a handler changes nothing.

        Raises:
            DeclarationError: two handlers are equally near to it, or it has the wire name of
                another event that changes the state.
        """
        applier = self._appliers.get(type(event))
        if applier is None:
            applier = self._first(type(event))
        applier(state, event)

    def _first(self, event: type[Event]) -> Applier:
        """Return what takes an event that is seen for the first time."""
        if not self.refresh() or event not in self._appliers:
            for name in message_type(event).names:
                if name in self._stored:
                    raise same_wire_name(event, self.codec.class_of(name), name)
            self._appliers[event] = _nothing
        return self._appliers[event]

    def replay(self, state: Any, events: Iterable[StoredEvent]) -> None:
        """Change the state by stored events, lifting older versions.

        Raises:
            EventUnreadable: a stored event does not fit its class.
            DeclarationError: two handlers are equally near to one that is known by now.
        """
        self.refresh()
        stored, codec = self._stored, self.codec
        for event in events:
            entry = stored.get(event.type)
            if entry is not None and event.type_version == entry[0]:
                _, decode, applier = entry
                try:
                    payload = decode(event.data)
                except Exception:  # noqa: BLE001  # the codec says which event it is, and why
                    payload = codec.read(event)
                applier(state, payload)
            elif codec.knows(event.type):
                for _, part in codec.read_parts(event):
                    self._appliers[type(part)](state, part)


class ModelType(StateType):
    """A decision model's `StateType`, with the fields that draw its boundary.

    Attributes:
        tag_fields: the fields marked `Tag`.
        boundary: what they and a command give.
        overridden: the class draws its boundary itself, and the fields just take values.
    """

    def __init__(self, cls: type[DecisionModel]) -> None:
        """Compile the class.

        Raises:
            DeclarationError: no field is marked `Tag` and `boundary` is not overridden.
        """
        super().__init__(cls)
        self.boundary = Boundary(cls, self.events)
        self.tag_fields = self.boundary.fields
        self.overridden = cls.boundary.__func__ is not DecisionModel.boundary.__func__  # type: ignore[attr-defined]  # classmethods have __func__
        if not self.tag_fields and not self.overridden:
            raise DeclarationError(
                subject=cls.__name__,
                reason='mark a field, email: Annotated[str, Tag("email")] = "", or override '
                "boundary()",
            )

    def begin(self, command: Command) -> Any:
        """Return the state for a command, before the first event."""
        return self.cls(**self.boundary.values(command))


@functools.cache
def aggregate_type(cls: type[Aggregate]) -> StateType:
    """Return the `StateType` of an aggregate class.

    Raises:
        DeclarationError: it is declared wrongly.
    """
    kind = StateType(cls)
    _check_models(kind)
    return kind


@functools.cache
def model_type(cls: type[DecisionModel]) -> ModelType:
    """Return the `ModelType` of a decision model class.

    Raises:
        DeclarationError: it is declared wrongly.
    """
    kind = ModelType(cls)
    _check_models(kind, kind)
    return kind


def _check_models(kind: StateType, *own: ModelType) -> None:
    """Refuse a command that lacks a field which a decision model of its handler draws on.

    Or has one of another kind, so that the tags of equal values would not be equal.
    """
    for handler in kind.commands.values():
        for model in (*own, *(model_type(model) for model in handler.models)):
            missing = [f for f in model.tag_fields if f not in handler.command.fields]
            if missing:
                raise DeclarationError(
                    subject=handler.function.__qualname__,
                    reason=f"{model.cls.__name__} takes {missing} from the command, but "
                    f"{handler.command.cls.__name__} has {list(handler.command.fields)}",
                )
            if not model.overridden:
                model.boundary.check(handler.command.cls)


def _nothing(state: Any, event: Event) -> None:
    """Change nothing, as an event does that nobody has declared a handler for."""


def split_stream(stream: str) -> tuple[str, str]:
    """Return the class name and id of a stream name such as ``Account/7``."""
    name, _, id = stream.partition("/")
    return name, id


_ID = re.compile(r"(?!\.{1,2}\Z)[^\x00-\x1f\x7f]{1,200}")


def check_id(aggregate: str, id: str) -> None:
    """Check an id: 1 to 200 characters, none of them a control character; not ``.`` or ``..``.

    Those two would be taken for folders on the way through HTTP (RFC 3986, section 5.2.4).

    Raises:
        InvalidInput: it is not.
    """
    if not _ID.fullmatch(id):
        raise InvalidInput(
            reason=f"{aggregate} id {id[:50]!r} must have 1 to 200 characters, none of them a "
            "control character, and not be '.' or '..'"
        )
