"""CloudEvents as messages of Kafka, and back; see the Kafka protocol binding of CloudEvents 1.0."""

from collections.abc import Mapping

from confluent_kafka import Message

from headwater.errors import MalformedMessage
from headwater.eventbus import cloudevents
from headwater.eventbus.api import Delivery

STRUCTURED = "application/cloudevents+json"
HEADERS: list[tuple[str, str | bytes | None]] = [("content-type", STRUCTURED.encode())]
_BINARY = "ce_"


def delivery(message: Message) -> Delivery:
    """Return the event of a message: structured, or binary, its attributes in headers.

    Raises:
        MalformedMessage: it is no CloudEvent; it says where.
    """
    partition, offset = message.partition() or 0, message.offset() or 0
    try:
        headers = _headers(message)
        value = message.value()
        if _BINARY + "specversion" in headers:
            attributes = {
                name.removeprefix(_BINARY): text
                for name, text in headers.items()
                if name.startswith(_BINARY)
            }
            content_type = headers.get("content-type", "")
            event = cloudevents.decode_binary(
                attributes, value, content_type=content_type, place=offset + 1
            )
        else:
            event = cloudevents.decode(value or b"", place=offset + 1)
    except MalformedMessage as error:
        name = f"event at offset {offset} of partition {partition}"
        raise MalformedMessage(name=name, reason=error.reason) from error
    return Delivery(partition, offset, event)


def _headers(message: Message) -> Mapping[str, str]:
    found = message.headers()
    if not found:
        return {}
    try:
        return {
            name.lower(): value.decode() if isinstance(value, bytes) else (value or "")
            for name, value in dict(found).items()
        }
    except UnicodeDecodeError as error:
        reason = f"a header is no text: {error}"
        raise MalformedMessage(name="CloudEvents document", reason=reason) from error


__all__ = ["HEADERS", "STRUCTURED", "delivery"]
