"""Events and metadata to stored bytes and back: msgspec JSON all the way, with upcasting."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from headwater.errors import DeclarationError, MalformedMessage, UnknownMessage
from headwater.messages.metadata import Metadata
from headwater.messages.types import Event, MessageType, message_type
from headwater.messages.upcasting import check_steps, encode_content, lift, sources_of

_encode = msgspec.json.Encoder().encode
_decode_metadata = msgspec.json.Decoder(Metadata).decode
Decode = Callable[[bytes], Event]


class EventCodec:
    """Decodes events of the classes it was given, lifting older versions.

    An older event may have become several, or none (see `upcaster`); stored events of other
    classes that have become events of these are known, too.
    """

    def __init__(self, events: Iterable[type[Event]] = ()) -> None:
        """Know these event classes.

        Raises:
            DeclarationError: two classes have the same wire name, or an upcaster is missing.
        """
        self._decoders: dict[str, tuple[int, Decode | None, MessageType]] = {}
        self._own: dict[type, Decode] = {}
        for event in events:
            self.add(event)

    def add(self, event: type[Event]) -> None:
        """Know one more event class; twice the same is fine."""
        kind = message_type(event)
        decode = msgspec.json.Decoder(event).decode
        self._know(kind, decode)
        self._own[event] = decode
        for source in sources_of(event):
            if source not in self._own:
                self._know(message_type(source), None)

    def _know(self, kind: MessageType, decode: Decode | None) -> None:
        check_steps(kind)
        for name in (kind.name, *kind.aliases):
            known = self._decoders.get(name)
            if known is not None and known[2].cls is not kind.cls:
                raise DeclarationError(
                    subject=kind.cls.__name__,
                    reason=f"wire name {name!r} belongs to {known[2].cls.__name__} already",
                )
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

    def decode(self, name: str, version: int, data: bytes) -> Event:
        """Return the event, lifted to the current version of its class.

        Raises:
            UnknownMessage: no class was given for the name.
            MalformedMessage: the content does not fit the class, an upcaster fails, or the event
                has become several or none, which `decode_all` returns.
        """
        events = self.decode_all(name, version, data)
        if len(events) != 1:
            reason = f"it has become {len(events)} events of the classes known here: expected one"
            raise MalformedMessage(name=f"event {name!r}", reason=reason)
        return events[0]

    def decode_all(self, name: str, version: int, data: bytes) -> tuple[Event, ...]:
        """Return what a stored event has become, in order: those of the classes given.

        Raises:
            UnknownMessage: no class was given for the name.
            MalformedMessage: the content does not fit the class, or an upcaster fails.
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
        except msgspec.MsgspecError as error:
            raise MalformedMessage(name=f"event {name!r}", reason=str(error)) from error

    def _lifted(self, kind: MessageType, version: int, data: bytes) -> Iterator[tuple[int, Event]]:
        for part, (became, content) in enumerate(lift(kind, version, data)):
            decode = self._own.get(became.cls)
            if decode is not None:
                yield part, decode(encode_content(became, content))


def encode_event(event: Event) -> bytes:
    """Return the content of an event as it is stored."""
    return _encode(event)


def encode_metadata(metadata: Metadata) -> bytes:
    """Return the stored form of metadata."""
    return _encode(metadata)


def decode_metadata(data: bytes) -> Metadata:
    """Return metadata from its stored form.

    Raises:
        MalformedMessage: it is not metadata.
    """
    try:
        return _decode_metadata(data)
    except msgspec.MsgspecError as error:
        raise MalformedMessage(name="metadata", reason=str(error)) from error
