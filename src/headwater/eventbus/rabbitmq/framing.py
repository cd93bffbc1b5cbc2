"""Documents as messages of a stream: AMQP 1.0, as RabbitMQ's other protocols and clients expect.

A message of ours has two sections, the properties with nothing but the content type, and the data.
Source: OASIS AMQP 1.0, part 1 (types) and part 3.2 (message format).
"""

from rstream import amqp_decoder

from headwater.errors import MalformedMessage

CONTENT_TYPE = b"application/cloudevents+json"

_CONTENT_TYPE = b"\xa3" + bytes([len(CONTENT_TYPE)]) + CONTENT_TYPE  # sym8
_FIELDS = b"\x40" * 6 + _CONTENT_TYPE  # of the seven first properties it is the last, others null
_HEAD = (
    b"\x00\x53\x73\xc0"  # section properties: list8
    + bytes([len(_FIELDS) + 1, 7])
    + _FIELDS
    + b"\x00\x53\x75\xb0"  # section data: vbin32
)
_BEGIN = len(_HEAD) + 4


def encode(document: bytes) -> bytes:
    """Return the message that holds a document."""
    return _HEAD + len(document).to_bytes(4, "big") + document


def decode(message: bytes) -> bytes | str:
    """Return the document that a message holds, also one of another program.

    Raises:
        MalformedMessage: it holds none.
    """
    if message.startswith(_HEAD):
        return message[_BEGIN:]
    if message[:1] == b"{":  # no AMQP at all
        return message
    try:
        found = amqp_decoder(message)
    except Exception as error:  # whatever rubbish leads to
        raise _malformed(f"it is no AMQP 1.0: {error}") from error
    body = found.value if found.value is not None else found.body
    if isinstance(body, list) and all(isinstance(part, bytes) for part in body):
        body = b"".join(body)
    if isinstance(body, (bytes, str)):
        return body
    raise _malformed("its body is no text")


def _malformed(reason: str) -> MalformedMessage:
    return MalformedMessage(name="message", reason=reason)


__all__ = ["CONTENT_TYPE", "decode", "encode"]
