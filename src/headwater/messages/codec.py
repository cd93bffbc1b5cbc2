"""Events and metadata to stored bytes and back: msgspec JSON all the way, with upcasting."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from headwater.errors import MalformedMessage, UnknownMessage
from headwater.messages.inheritance import same_wire_name
from headwater.messages.metadata import Metadata
from headwater.messages.types import Event, MessageType, message_type

_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode
_decode_metadata = msgspec.json.Decoder(Metadata).decode


class EventCodec:
    """Decodes events of the classes it was given, lifting older versions."""

    def __init__(self, events: Iterable[type[Event]] = ()) -> None:
        """Know these event classes.

        Raises:
            DeclarationError: two classes have the same wire name.
        """
        self._decoders: dict[str, tuple[int, Callable[[bytes], Event], MessageType]] = {}
        for event in events:
            self.add(event)

    def add(self, event: type[Event]) -> None:
        """Know one more event class; twice the same is fine."""
        kind = message_type(event)
        decoder = msgspec.json.Decoder(event).decode
        for name in kind.names:
            known = self._decoders.get(name)
            if known is not None and known[2].cls is not event:
                raise same_wire_name(event, known[2].cls, name)
            self._decoders[name] = (kind.version, decoder, kind)

    def knows(self, name: str) -> bool:
        """Whether events of this wire name can be decoded."""
        return name in self._decoders

    def class_of(self, name: str) -> type[Event]:
        """Return the class that events of a known wire name are decoded to."""
        cls: type[Event] = self._decoders[name][2].cls
        return cls

    def decode(self, name: str, version: int, data: bytes) -> Event:
        """Return the event, lifted to the current version of its class.

        Raises:
            UnknownMessage: no class was given for the name.
            MalformedMessage: the content does not fit the class, or an upcaster is missing.
        """
        try:
            current, decoder, kind = self._decoders[name]
        except KeyError:
            raise UnknownMessage(name=name) from None
        try:
            if version == current:
                return decoder(data)
            return self._lift(kind, version, data)
        except msgspec.MsgspecError as error:
            raise MalformedMessage(name=f"event {name!r}", reason=str(error)) from error

    def _lift(self, kind: MessageType, version: int, data: bytes) -> Event:
        content = _decode_any(data)
        steps = kind.upcasters
        for step in range(version, kind.version):
            if step not in steps:
                raise MalformedMessage(
                    name=f"event {kind.name!r}",
                    reason=f"stored at version {version}, the class is at {kind.version} and no "
                    f"@upcaster(from_version={step}) is registered",
                )
            content = steps[step](content)
        if version > kind.version:
            raise MalformedMessage(
                name=f"event {kind.name!r}",
                reason=f"stored at version {version}, this program knows {kind.version}: upgrade",
            )
        lifted: Event = msgspec.convert(content, kind.cls)
        return lifted


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
