"""Events and metadata to stored bytes and back: msgspec JSON all the way, with upcasting."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from headwater.errors import EventUnreadable, MalformedMessage, UnknownMessage
from headwater.messages.inheritance import same_wire_name
from headwater.messages.metadata import Metadata
from headwater.messages.sealing import NO_CODEC, is_sealed
from headwater.messages.stored_form import StoredForm, Write, decoder_of
from headwater.messages.types import Event, MessageType, message_type
from headwater.messages.upcasting import check_steps, encode_content, lift, sources_of

Decode = Callable[[bytes], Event]
_METADATA = StoredForm(Metadata, "metadata")
_read_metadata = _METADATA.read
_NO_METADATA = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class EventCodec:
    """Decodes events of the classes it was given, lifting older versions.

    An older event may have become several, or none (see `upcaster`); stored events of other
    classes that have become events of these are known, too.
    """

    def __init__(self, events: Iterable[type[Event]] = ()) -> None:
        """Know these event classes.

        Raises:
            DeclarationError: two classes have the same wire name, an upcaster is missing, or a
                class could never be read.
        """
        self._decoders: dict[str, tuple[int, Decode | None, MessageType]] = {}
        self._own: dict[type, Decode] = {}
        for event in events:
            self.add(event)

    def add(self, event: type[Event]) -> None:
        """Know one more event class; twice the same is fine."""
        kind = message_type(event)
        decode = decoder_of(event)
        self._know(kind, decode)
        self._own[event] = decode
        for source in sources_of(event):
            if source not in self._own:
                self._know(message_type(source), None)

    def _know(self, kind: MessageType, decode: Decode | None) -> None:
        check_steps(kind)
        for name in kind.names:
            known = self._decoders.get(name)
            if known is not None and known[2].cls is not kind.cls:
                raise same_wire_name(kind.cls, known[2].cls, name)
            self._decoders[name] = (kind.version, decode, kind)

    @property
    def names(self) -> tuple[str, ...]:
        """The wire names of all stored events that can be, or have become, one of the classes."""
        return tuple(self._decoders)

    @property
    def versions(self) -> dict[str, int]:
        """The current versions of all `names`."""
        return {name: version for name, (version, _, _) in self._decoders.items()}

    def knows(self, name: str) -> bool:
        """Whether stored events of this wire name can be, or have become, one of the classes."""
        return name in self._decoders

    def direct(self, name: str) -> tuple[int, Decode, type[Event]] | None:
        """Return how events of a known wire name are decoded that are of today: version, function.

        And their class; None for a name whose events are always lifted.
        """
        version, decode, kind = self._decoders[name]
        return None if decode is None else (version, decode, kind.cls)

    def class_of(self, name: str) -> type[Event]:
        """Return the class that events of a known wire name are decoded to."""
        cls: type[Event] = self._decoders[name][2].cls
        return cls

    def decode(self, name: str, version: int, data: bytes) -> Event:
        """Return the event, lifted to the current version of its class.

        Raises:
            UnknownMessage: no class was given for the name.
            EventUnreadable: the content does not fit the class, an upcaster fails, or the event
                has become several or none, which `decode_all` returns.
        """
        events = self.decode_all(name, version, data)
        if len(events) != 1:
            reason = f"it has become {len(events)} events of the classes known here: expected one"
            raise EventUnreadable(type=name, reason=reason)
        return events[0]

    def decode_all(self, name: str, version: int, data: bytes) -> tuple[Event, ...]:
        """Return what a stored event has become, in order: those of the classes given.

        Raises:
            UnknownMessage: no class was given for the name.
            EventUnreadable: the content does not fit the class, or an upcaster fails.
        """
        return tuple([event for _, event in self.decode_parts(name, version, data)])

    def decode_parts(self, name: str, version: int, data: bytes) -> Sequence[tuple[int, Event]]:
        """As `decode_all`, each with its number among all that the stored event has become."""
        try:
            current, decode, kind = self._decoders[name]
        except KeyError:
            raise UnknownMessage(name=name) from None
        try:
            if version != current:
                return list(self._lifted(kind, version, data))
            return () if decode is None else ((0, decode(data)),)
        except EventUnreadable:
            raise
        except Exception as error:
            reason = NO_CODEC if is_sealed(data) else _reason(error)
            raise EventUnreadable(type=name, reason=reason) from error

    def read(self, event: Any) -> Event:
        """Return an event from its form in a store, or on the bus (see `decode`).

        Raises:
            UnknownMessage: no class was given for its name.
            EventUnreadable: it does not fit its class; the error says which event it is.
        """
        try:
            return self.decode(event.type, event.type_version, event.data)
        except EventUnreadable as error:
            raise _placed(error, event) from error

    def read_parts(self, event: Any) -> Sequence[tuple[int, Event]]:
        """As `read`, all that it has become (see `decode_parts`)."""
        try:
            return self.decode_parts(event.type, event.type_version, event.data)
        except EventUnreadable as error:
            raise _placed(error, event) from error

    def _lifted(self, kind: MessageType, version: int, data: bytes) -> Iterator[tuple[int, Event]]:
        for part, (became, content) in enumerate(lift(kind, version, data)):
            decode = self._own.get(became.cls)
            if decode is not None:
                yield part, decode(encode_content(became, content))


def encode_event(event: Event) -> bytes:
    """Return the content of an event as it is stored.

    Raises:
        Unstorable: it would not come back as the same event.
    """
    return stored_event(event)[1]


def stored_event(event: Event) -> tuple[MessageType, bytes, Event]:
    """Return an event's type, its content as it is stored, and the event as it is read back.

    Raises:
        Unstorable: it would not come back as the same event.
    """
    cls = type(event)
    known = _EVENTS.get(cls)
    if known is None:
        known = _EVENTS[cls] = (message_type(cls), message_form(cls).write)
    kind, write = known
    data, back = write(event)
    return kind, data, back


_EVENTS: dict[type, tuple[MessageType, Write]] = {}  # seen so far; on the way of each command


@functools.cache
def message_form(cls: type) -> StoredForm:
    """Return the stored form of a class of commands, events or queries.

    Raises:
        DeclarationError: it is none, or its messages could never be read.
    """
    kind = message_type(cls)
    return StoredForm(cls, f"{kind.kind} {kind.name!r}")


def encode_metadata(metadata: Metadata) -> bytes:
    """Return the stored form of metadata.

    Raises:
        Unstorable: it would not come back as the same.
    """
    return _METADATA.write(metadata)[0]


def decode_metadata(data: bytes) -> Metadata:
    """Return metadata from its stored form.

    Raises:
        MalformedMessage: it is not metadata.
    """
    try:
        metadata: Metadata = _read_metadata(data)
    except _NO_METADATA as error:
        raise MalformedMessage(name="metadata", reason=str(error)) from error
    return metadata


def metadata_of(event: Any) -> Metadata:
    """Return the metadata of an event from its form in a store, or on the bus.

    Raises:
        EventUnreadable: it cannot be read; the error says which event it is.
    """
    try:
        metadata: Metadata = _read_metadata(event.metadata)
    except _NO_METADATA as error:
        unreadable = EventUnreadable(type=event.type, reason=f"its metadata: {error}")
        raise _placed(unreadable, event) from error
    return metadata


def _placed(error: EventUnreadable, event: Any) -> EventUnreadable:
    return error.replaced(stream=event.stream, version=event.version)


def _reason(error: Exception) -> str:
    """Return why content could not be read; an upcaster may raise anything."""
    told = isinstance(error, msgspec.MsgspecError)
    return str(error) if told else f"{type(error).__name__}: {error}"
