"""How many connections a server takes, so that it never uses up what all else needs.

When no descriptor is left, nothing works: databases, calls to others, and what accepts connections,
which then closes them without a word or ends altogether. So some are kept back, and who comes
while the others are in use is told: 503, come again.
"""

from typing import Any

import msgspec

from headwater._os.limits import descriptor_limit, open_descriptors
from headwater.errors import Overloaded

_RESERVE_MAX = 256
_CONNECTIONS_MIN = 4
IDLE_S = 2.0
"""How long somebody who came too many may take for a request that is told so."""


def connections_max() -> int:
    """Return how many connections a server of this process may have, as things are."""
    limit = descriptor_limit()
    return max(_CONNECTIONS_MIN, limit - open_descriptors() - reserve(limit))


def reserve(limit: int) -> int:
    """Return how many descriptors are kept for all else, at most half of them by who came late."""
    return min(_RESERVE_MAX, limit // 4)


def overloaded(limit: int) -> Any:
    """Return an ASGI app that tells everyone that there are too many connections."""
    error = Overloaded(limit=limit)
    body = msgspec.json.encode(error.to_problem())
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"retry-after", b"1"),
        (b"connection", b"close"),
    ]

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001  # see ASGI
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1013})
            return
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


__all__ = ["IDLE_S", "connections_max", "overloaded", "reserve"]
