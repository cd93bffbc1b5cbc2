"""Who asks: found out once, at the edge, from what a request brings along."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from headwater.errors import DeadlineExceeded
from headwater.messages import ANONYMOUS, Metadata, Principal


class EdgeRequest(msgspec.Struct, frozen=True):
    """A request that has arrived, without its body.

    Attributes:
        method: upper case; ``GET`` of a WebSocket.
        path: decoded, without the query string.
        headers: by lower-case name; several of one name are one value, separated by commas.
        client: the address of whoever connected, a proxy or the gateway, say; empty when unknown.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    client: str = ""


Authenticate = Callable[[EdgeRequest], Principal | Awaitable[Principal]]
"""Returns who asks, or `ANONYMOUS`; raises `Unauthenticated` to refuse. It may be async."""

Identify = Callable[[Any], Awaitable[Principal]]


def identifying(authenticate: Authenticate | None, *, timeout_s: float) -> Identify:
    """Return what asks a hook who makes the request of an ASGI scope.

    Without a hook everybody is `ANONYMOUS`. What it returns raises what the hook raises,
    `DeadlineExceeded` when that has not answered in time, and TypeError when its answer is none.
    """
    if authenticate is None:
        return _anonymous

    async def identify(scope: Any) -> Principal:
        answer: Any = authenticate(_request(scope))
        if isinstance(answer, Awaitable):
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await answer
            except TimeoutError:
                action = f"authenticate {scope['path']}"
                raise DeadlineExceeded(
                    action=action, timeout_s=timeout_s, outcome="not stored"
                ) from None
        if not isinstance(answer, Principal):
            msg = f"authenticate returned {type(answer).__name__}, expected Principal"
            raise TypeError(msg)
        return answer

    return identify


async def _anonymous(_scope: Any) -> Principal:
    return ANONYMOUS


def identified(metadata: Metadata, principal: Principal) -> Metadata:
    """Return metadata that says who asks; a principal's tenant goes before what a caller says."""
    if principal is ANONYMOUS:
        return metadata
    tenant = principal.tenant or metadata.tenant
    return msgspec.structs.replace(metadata, principal=principal.name, tenant=tenant)


def _request(scope: Any) -> EdgeRequest:
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1"), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    client = scope.get("client")
    return EdgeRequest(
        method=scope.get("method", "GET"),
        path=scope["path"],
        headers=headers,
        client=client[0] if client else "",
    )


__all__ = ["Authenticate", "EdgeRequest", "Identify", "identified", "identifying"]
