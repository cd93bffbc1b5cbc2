"""Events between services as CloudEvents 1.0 JSON (structured mode), and back.

Source: CloudEvents 1.0.2 specification, its JSON event format, and its extensions Sequence,
Partitioning and Distributed Tracing. The attributes:

===============  =====================================================================
specversion      ``1.0``
id               ``<epoch>/<position>``; with ``source`` it identifies the event
source           the service that owns the event
type             the event's wire name
time             recorded time, RFC 3339, UTC, microseconds
subject          the stream
datacontenttype  ``application/json``; ``application/octet-stream`` through a codec
sequence         the position, 20 digits, so that the order of texts is the order of positions
partitionkey     the stream
traceparent      W3C trace context from the metadata; absent without one
epoch            the epoch of the event store
version          the version in the stream
typeversion      the version of the type
tags             a JSON list, as text (CloudEvents attributes are plain values)
metadata         a JSON object, as text
confirmed        digits: up to which position the source is on the bus; absent: up to its own
confirmedends    for each partition, divided by spaces, the last position there; see `BusEvent.ends`
data             the event's content; ``data_base64`` when it went through a codec
===============  =====================================================================

Events of other programs need only what CloudEvents requires. They have no ``epoch``; the place on
the bus stands in for their position, as nothing else orders what a stranger sends; their ``id``
tells what a stranger sends twice.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

from headwater.errors import MalformedMessage
from headwater.eventbus.api import BusEvent
from headwater.messages.sealing import is_sealed

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_POSITION_MAX = 2**63 - 1
_COUNTS = ("version", "typeversion")  # the attributes that are numbers in JSON

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Document(msgspec.Struct, omit_defaults=True):
    """The document; the order of the fields is their order on the wire."""

    id: _Text
    source: _Text
    type: _Text
    specversion: _Text
    time: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    subject: str = ""
    datacontenttype: str = ""
    sequence: str = ""
    partitionkey: str = ""
    traceparent: str = ""
    epoch: str = ""
    version: _Count = 0
    typeversion: _Count = 1
    tags: str = "[]"
    metadata: str = ""
    confirmed: str = ""
    confirmedends: str = ""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data_base64: str = ""


class _Trace(msgspec.Struct):
    traceparent: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Document).decode
_decode_trace = msgspec.json.Decoder(_Trace).decode
_decode_tags = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def encode(event: BusEvent) -> bytes:
    """Return the CloudEvents document of an event.

    Raises:
        MalformedMessage: its metadata is not a JSON object as text.
    """
    trace, binary = "", is_sealed(event.data)
    try:
        if b'"traceparent"' in event.metadata:
            trace = _decode_trace(event.metadata).traceparent
        return _encode(
            _Document(
                specversion="1.0",
                id=event.id or f"{event.epoch}/{event.position}",
                source=event.source,
                type=event.type,
                time=_EPOCH + timedelta(microseconds=event.time),
                subject=event.stream,
                datacontenttype="application/octet-stream" if binary else "application/json",
                sequence=f"{event.position:020}",
                partitionkey=event.stream,
                traceparent=trace,
                epoch=event.epoch,
                version=event.version,
                typeversion=event.type_version,
                tags=_encode(event.tags).decode() if event.tags else "[]",
                metadata=event.metadata.decode(),
                confirmed="" if event.confirmed == event.position else str(event.confirmed),
                confirmedends=" ".join(map(str, event.ends)) if event.ends else "",
                data=msgspec.Raw(event.data) if event.data and not binary else msgspec.UNSET,
                data_base64=b64encode(event.data).decode() if binary else "",
            )
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        name = f"metadata of {event.type!r} at {event.source}/{event.position}"
        raise MalformedMessage(name=name, reason=str(error)) from error


def decode(document: bytes | str, *, place: int = 1) -> BusEvent:
    """Return the event of a CloudEvents document.

    Args:
        document: the JSON text.
        place: stands in for the position of an event of another program: a number that rises
            with every event of the partition, from 1.

    Raises:
        MalformedMessage: it is not CloudEvents 1.0, or an attribute has no proper value.
    """
    try:
        wire = _decode(document)
        if wire.specversion != "1.0":
            raise _malformed(f"specversion is {wire.specversion!r}, expected '1.0'")
        tags = () if wire.tags == "[]" else _decode_tags(wire.tags)
        if wire.metadata:
            _decode_object(wire.metadata)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _malformed(str(error)) from error
    position = _position(wire.sequence, "sequence", 1) if wire.epoch else place
    confirmed = _position(wire.confirmed, "confirmed", 0) if wire.confirmed else position
    ends = tuple(_position(end, "confirmedends", 0) for end in wire.confirmedends.split())
    return BusEvent(
        source=wire.source,
        epoch=wire.epoch,
        position=position,
        stream=wire.subject or wire.partitionkey or wire.id,
        version=wire.version,
        type=wire.type,
        type_version=wire.typeversion,
        time=0 if wire.time is None else (wire.time - _EPOCH) // _MICROSECOND,
        tags=tags,
        data=_data(wire),
        metadata=wire.metadata.encode() or _metadata(wire),
        confirmed=confirmed if wire.epoch else 0,
        ends=ends if wire.epoch else (),
        id="" if wire.epoch else wire.id,
    )


def decode_binary(
    attributes: Mapping[str, str], data: bytes | str | None, *, content_type: str, place: int = 1
) -> BusEvent:
    """Return the event whose attributes were beside its data: the binary mode of CloudEvents.

    Args:
        attributes: by name, as text.
        data: the content; None: there is none.
        content_type: what it says to be; JSON when it says nothing.
        place: see `decode`.

    Raises:
        MalformedMessage: it is not CloudEvents 1.0, or an attribute has no proper value.
    """
    document: dict[str, Any] = {**attributes, "datacontenttype": content_type}
    for name in _COUNTS:
        if attributes.get(name, "").isdecimal():
            document[name] = int(attributes[name])
    content = data.encode() if isinstance(data, str) else data
    kind = content_type.partition(";")[0].strip().lower()
    if content is not None and (not kind or kind.endswith(("/json", "+json"))):
        document["data"] = msgspec.Raw(content)
    elif content is not None:
        document["data_base64"] = b64encode(content).decode()
    return decode(_encode(document), place=place)


def _data(wire: _Document) -> bytes:
    """Return the content; binary content of other programs stays base64, as JSON text."""
    if wire.data is not msgspec.UNSET:
        return bytes(wire.data)
    if wire.epoch and wire.data_base64:
        return _base64(wire.data_base64)
    return _encode(wire.data_base64) if wire.data_base64 else b"null"


def _base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise _malformed(f"data_base64 is no base64: {error}") from error


def _metadata(wire: _Document) -> bytes:
    """Return metadata for an event of another program."""
    if wire.traceparent:
        return _encode({"id": wire.id, "traceparent": wire.traceparent})
    return _encode({"id": wire.id})


def _position(digits: str, attribute: str, least: int) -> int:
    if digits.isascii() and digits.isdigit() and len(digits) <= 20:
        position = int(digits)
        if least <= position <= _POSITION_MAX:
            return position
    raise _malformed(f"{attribute} is {digits!r}, expected a position from {least} as digits")


def _malformed(reason: str) -> MalformedMessage:
    return MalformedMessage(name="CloudEvents document", reason=reason)
