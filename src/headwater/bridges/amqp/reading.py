"""From a message of AMQP to an event: CloudEvents in both modes, and plain JSON that is declared.

Source: the CloudEvents AMQP protocol binding 1.0.2: structured mode is told by the content type
``application/cloudevents+json``, binary mode by application properties, here headers, whose names
begin with ``cloudEvents:`` (or ``cloudEvents_``).
"""

from datetime import UTC, datetime
from typing import Any

import msgspec
from aio_pika.abc import AbstractIncomingMessage

from headwater.bridges.amqp.declarations import AmqpQueue
from headwater.bridges.inbox import message_key
from headwater.errors import MalformedMessage
from headwater.eventbus import BusEvent
from headwater.eventbus.cloudevents import decode, decode_binary
from headwater.messages import message_type

_PREFIXES = ("cloudEvents:", "cloudEvents_")
_STRUCTURED = "application/cloudevents"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Identity(msgspec.Struct):
    id: str = ""


class Read(msgspec.Struct, frozen=True):
    """An event as it was read; ``key`` is that of the inbox."""

    event: BusEvent
    key: str


_decode_identity = msgspec.json.Decoder(_Identity).decode
_check_json = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.Encoder().encode


def read(message: AbstractIncomingMessage, queue: AmqpQueue, place: int) -> Read:
    """Return the event of a message.

    Args:
        message: as delivered.
        queue: where it was.
        place: stands in for the position of an event of another program.

    Raises:
        MalformedMessage: it cannot be read; says what would help.
    """
    kind = (message.content_type or "").partition(";")[0].strip().lower()
    if kind.startswith(_STRUCTURED):
        if kind != f"{_STRUCTURED}+json":
            raise _unreadable(f"its content type is {kind!r}, expected '{_STRUCTURED}+json'")
        event = decode(message.body, place=place)
        return _read(event, queue, _decode_identity(message.body).id)
    attributes = _attributes(message)
    if attributes:
        event = decode_binary(
            attributes, message.body, content_type=message.content_type or "", place=place
        )
        return _read(event, queue, attributes["id"])
    return _plain(message, queue, place)


def _read(event: BusEvent, queue: AmqpQueue, id_: str) -> Read:
    return Read(event, message_key(queue.queue, event.source, id_))


def _attributes(message: AbstractIncomingMessage) -> dict[str, str]:
    """Return the attributes of the binary mode; none: it is not in that mode."""
    found: dict[str, str] = {}
    for name, value in (message.headers or {}).items():
        for prefix in _PREFIXES:
            if name.startswith(prefix):
                found[name.removeprefix(prefix)] = _text(name, value)
    return found


def _text(name: str, value: Any) -> str:
    """Return the value of a header as the canonical text of CloudEvents."""
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError as error:
            raise _unreadable(f"header {name!r} is no text: {error}") from error
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise _unreadable(f"header {name!r} is a {type(value).__name__}, expected a text")


def _plain(message: AbstractIncomingMessage, queue: AmqpQueue, place: int) -> Read:
    """Return the event of a message whose body is nothing but the event's content."""
    called = (message.type if queue.called_by == "type" else message.routing_key) or ""
    event = queue.plain.get(called)
    if event is None:
        known = ", ".join(map(repr, queue.plain)) or "none"
        raise _unreadable(
            f"it is no CloudEvent, and its {queue.called_by} {called[:100]!r} is not declared: "
            f"AmqpQueue(plain=...) has {known}"
        )
    if not message.message_id:
        raise _unreadable(
            "it has no message_id, by which a repetition would be known: let the sender set one"
        )
    try:
        body = bytes(_check_json(message.body))
        body.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(f"its body is no JSON: {error}") from error
    kind, source = message_type(event), message.app_id or queue.queue
    recorded = message.timestamp
    at_us = (
        0 if recorded is None else int((recorded.astimezone(UTC) - _EPOCH).total_seconds()) * 10**6
    )
    raw = BusEvent(
        source=source,
        epoch="",
        position=place,
        stream=message.message_id,
        version=0,
        type=kind.name,
        type_version=kind.version,
        time=at_us,
        tags=(),
        data=body,
        metadata=_encode({"id": message.message_id}),
    )
    return _read(raw, queue, message.message_id)


def _unreadable(reason: str) -> MalformedMessage:
    return MalformedMessage(name="message of AMQP", reason=reason)


__all__ = ["Read", "read"]
