"""Server-sent events: the text format, written and read incrementally."""

from collections.abc import AsyncIterable, AsyncIterator

import msgspec

HEARTBEAT = b": still here\n\n"
"""A comment; shows both sides that the connection lives."""

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Keep proxies from storing or holding back a stream."""

MEDIA_TYPE = "text/event-stream; charset=utf-8"


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One event: its name, data, and the id to resume after."""

    name: str
    data: bytes
    id: str = ""


def encode_event(name: str, data: bytes, *, id: str = "") -> bytes:
    """Return the wire form; data is text in UTF-8 of any number of lines."""
    lines = [b"event: " + name.encode()]
    if id:
        lines.append(b"id: " + id.encode())
    lines.extend(b"data: " + line for line in data.split(b"\n"))
    return b"\n".join(lines) + b"\n\n"


async def decode_events(chunks: AsyncIterable[bytes]) -> AsyncIterator[ServerSentEvent | None]:
    """Yield the events of a stream, and None for each comment (a sign of life).

    Chunks may be cut anywhere. An event that the stream's end cuts off is dropped, as the
    standard says (https://html.spec.whatwg.org/multipage/server-sent-events.html).
    """
    name, id, data = "", "", list[bytes]()
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if not line:
                if data:
                    yield ServerSentEvent(name or "message", b"\n".join(data), id)
                name, data = "", []
                continue
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if not field:
                yield None
            elif field == b"data":
                data.append(value)
            elif field == b"event":
                name = value.decode(errors="replace")
            elif field == b"id":
                id = value.decode(errors="replace")


__all__ = ["HEADERS", "HEARTBEAT", "MEDIA_TYPE", "ServerSentEvent", "decode_events", "encode_event"]
