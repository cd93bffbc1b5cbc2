"""One system call for each answer: uvicorn writes the head and the body of an answer apart."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headwater._http.crowd import IDLE_S, overloaded, reserve
from headwater._os.limits import descriptor_limit

_HELD_BYTES_MAX = 65_536


class JoiningTransport:
    """Holds back what is written until `flush`, the next turn of the event loop, or 64 KiB.

    So a stream's parts leave in time, and what is held is bounded. Everything else is the
    transport's own.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Write to a transport of this loop."""
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._held_bytes = 0

    def write(self, data: bytes) -> None:
        """Write, a little later."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > _HELD_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what is held back, if anything."""
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            self._held_bytes = 0
            self._transport.write(data)

    def close(self) -> None:
        """Close once everything is written."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Return the transport's own attribute."""
        return getattr(self._transport, name)


class JoiningProtocol(HttpToolsProtocol):
    """Uvicorn's protocol over a `JoiningTransport`; who comes too many is told so."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin."""
        self._joining = JoiningTransport(transport, self.loop)
        super().connection_made(self._joining)  # type: ignore[arg-type]  # all that uvicorn uses
        limit: int = getattr(self.config, "connections_max", 0)
        beyond = len(self.connections) - limit
        if limit and beyond > 0:
            self.app = overloaded(limit)
            if beyond > max(1, reserve(descriptor_limit()) // 2):
                transport.close()  # not even those who are told so may use up everything
            else:
                self.loop.call_later(IDLE_S, self._joining.close)

    def on_response_complete(self) -> None:
        """Send the answer."""
        self._joining.flush()
        super().on_response_complete()


__all__ = ["JoiningProtocol", "JoiningTransport"]
