"""Routes that a service brings itself: Litestar handlers, each with the context of its request."""

import copy
import time
from collections.abc import Iterable, Iterator
from typing import Any

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler, WebsocketRouteHandler

from headwater._http import problem_handlers, problem_of
from headwater._http.problems import MEDIA_TYPE
from headwater.discovery import RouteInfo
from headwater.errors import DeadlineExceeded, HeadwaterError
from headwater.messages import handling
from headwater.messages.headers import CONSISTENCY_TOKEN, from_headers
from headwater.service.authentication import Identify, identified
from headwater.service.endpoints import request_headers, respond
from headwater.service.router import Endpoint


def application(handlers: Iterable[Any], *, limit_bytes: int) -> Litestar:
    """Return a Litestar application whose errors are problem documents."""
    return Litestar(
        route_handlers=list(handlers),
        exception_handlers=problem_handlers(limit_bytes=limit_bytes),
        request_max_body_size=limit_bytes,
        openapi_config=None,
        logging_config=None,
    )


def own_endpoints(
    handlers: Iterable[Any], *, limit_bytes: int, identify: Identify
) -> Iterator[tuple[str, str, Endpoint]]:
    """Yield method, template and endpoint of HTTP handlers.

    By the time one is called it has been decided which is meant. Litestar's own router would look
    for it once more, by another rule, where a literal stands beside a parameter: so templates that
    are like that are in applications of their own.
    """
    groups: list[dict[str, list[HTTPRouteHandler]]] = []
    for handler in handlers:
        for path in handler.paths if isinstance(handler, HTTPRouteHandler) else ():
            for group in groups:
                if not any(_rivals(path, other) for other in group):
                    break
            else:
                groups.append(group := {})
            alone = copy.copy(handler)
            alone.paths = {path}
            group.setdefault(path, []).append(alone)
    for group in groups:
        all_of_it = [handler for sharing in group.values() for handler in sharing]
        app = in_context(application(all_of_it, limit_bytes=limit_bytes), identify=identify)
        for path, sharing in group.items():
            for handler in sharing:
                for method in handler.http_methods:
                    yield str(getattr(method, "value", method)), path, endpoint_of(app)


def _rivals(one: str, other: str) -> bool:
    """Whether a path that begins like both can go on with a literal or a parameter."""
    for mine, theirs in zip(one.strip("/").split("/"), other.strip("/").split("/"), strict=False):
        if mine.startswith("{") != theirs.startswith("{"):
            return True
        if mine != theirs and not mine.startswith("{"):
            return False
    return False


def endpoint_of(app: Any) -> Endpoint:
    """Return the endpoint of an ASGI app, which finds the parameters by itself, to their types."""

    async def endpoint(scope: Any, receive: Any, send: Any, values: dict[str, str]) -> None:  # noqa: ARG001  # see above
        await app(scope, receive, send)

    return endpoint


def in_context(app: Any, *, identify: Identify) -> Any:
    """Surround an ASGI app with the context of each request, as messages have it.

    Who asks is found out before, as for messages. So commands, queries and calls that its handlers
    send carry principal, tenant, trace, correlation, deadline and consistency token on.
    """

    async def within(scope: Any, receive: Any, send: Any) -> None:
        try:
            headers = request_headers(scope)
            metadata, deadline = from_headers(headers)
            _check_time(scope, deadline)
            principal = await identify(scope)
        except Exception as error:
            if scope["type"] == "websocket" and not isinstance(error, HeadwaterError):
                raise  # a fault of the hook, told as that of a handler
            await _refuse(error, scope, send)
            return
        metadata = identified(metadata, principal)
        token = headers.get(CONSISTENCY_TOKEN, "")
        with handling(metadata, deadline=deadline, token=token, principal=principal):
            await app(scope, receive, send)

    return within


def _check_time(scope: Any, deadline: float | None) -> None:
    if deadline is not None and deadline <= time.monotonic():
        raise DeadlineExceeded(action=scope["path"], timeout_s=0.0, outcome="not stored")


async def _refuse(error: Exception, scope: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": str(error)})
        return
    status, headers, body = problem_of(error, scope)
    told = [(name.encode(), text.encode("latin-1")) for name, text in headers.items()]
    await respond(send, status, [*told, (b"content-type", MEDIA_TYPE.encode())], body)


def _plain(path: str) -> str:
    """Return a template of Litestar without the types of its parameters."""
    parts = path.strip("/").split("/")
    return "/" + "/".join(
        f"{{{part[1:-1].partition(':')[0]}}}" if part.startswith("{") else part for part in parts
    )


def own_routes(handlers: Iterable[Any]) -> list[RouteInfo]:
    """Return the routes of handlers for discovery."""
    found = []
    for handler in handlers:
        for path in sorted(handler.paths):
            plain = _plain(path)
            if isinstance(handler, WebsocketRouteHandler):
                found.append(RouteInfo("GET", plain, "stream"))
                continue
            kind = "stream" if handler.opt.get("stream") else "http"
            found.extend(
                RouteInfo(str(getattr(method, "value", method)), plain, kind)  # type: ignore[arg-type]  # of Literal
                for method in sorted(handler.http_methods)
                if method not in ("OPTIONS", "HEAD")
            )
    return found


__all__ = [
    "application",
    "endpoint_of",
    "in_context",
    "own_endpoints",
    "own_routes",
]
