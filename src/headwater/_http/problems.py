"""Every error leaves an HTTP edge as a problem document (RFC 9457)."""

import math
import uuid
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, SerializationException
from litestar.types import ExceptionHandlersMap
from msgspec.json import Decoder as JsonDecoder

from headwater.errors import (
    HeadwaterError,
    MalformedMessage,
    RouteNotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unexpected,
)

MEDIA_TYPE = "application/problem+json"

T = TypeVar("T")

_log = structlog.get_logger("headwater.http")


def problem_handlers(*, limit_bytes: int = 0) -> ExceptionHandlersMap:
    """Return Litestar exception handlers that turn every exception into a problem document.

    Errors of `headwater.errors` keep their status, code and fields. Litestar's own become the
    nearest of them (404 `RouteNotFound`, 400 `MalformedMessage`, 413 `TooLarge`); 405 keeps its
    ``Allow`` header. Anything else is logged with its traceback and answered as `Unexpected`,
    with a reference that is also in the log.

    Args:
        limit_bytes: the app's body limit, for the message of 413.
    """

    def http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
        return _http_error(request, error, limit_bytes)

    return {
        HeadwaterError: _own_error,
        HTTPException: http,
        SerializationException: _undecodable,
        Exception: _unexpected,
    }


async def read_json(request: Request[Any, Any, Any], decoder: JsonDecoder[T], *, name: str) -> T:
    """Return the body of a request, decoded and validated.

    Raises:
        MalformedMessage: it is not JSON or of another shape; ``name`` says what it should be.
    """
    try:
        return decoder.decode(await request.body())
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedMessage(name=name, reason=str(error)) from error


def problem_response(
    error: HeadwaterError, headers: dict[str, str] | None = None
) -> Response[bytes]:
    """Return the problem document of an error, with ``Retry-After`` where waiting helps."""
    headers = dict(headers or {})
    if isinstance(error, Unavailable):
        headers.setdefault("Retry-After", str(max(1, math.ceil(error.retry_after_s))))
    if isinstance(error, Unauthenticated):
        headers.setdefault("WWW-Authenticate", "Bearer")
    return _response(error.to_problem(), error.status, headers)


def _response(problem: dict[str, Any], status: int, headers: dict[str, str]) -> Response[bytes]:
    return Response(
        msgspec.json.encode(problem), status_code=status, media_type=MEDIA_TYPE, headers=headers
    )


def _own_error(_: Request[Any, Any, Any], error: HeadwaterError) -> Response[bytes]:
    return problem_response(error)


def _http_error(
    request: Request[Any, Any, Any], error: HTTPException, limit_bytes: int
) -> Response[bytes]:
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND:
        path = request.scope.get("raw_path", b"").decode("latin-1") or request.scope["path"]
        return problem_response(RouteNotFound(method=str(request.method), path=path), headers)
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return problem_response(TooLarge(limit_bytes=limit_bytes), headers)
    if error.status_code == HTTPStatus.BAD_REQUEST:
        return problem_response(
            MalformedMessage(name="the request", reason=_reason(error)), headers
        )
    if error.status_code >= 500 and error.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
        return _unexpected(request, error)
    phrase = HTTPStatus(error.status_code).phrase
    detail = f"{request.method} {request.scope['path']}: {error.detail}"
    allowed = next((headers[name] for name in headers if name.lower() == "allow"), "")
    if allowed:
        detail = f"{detail}: allowed are {allowed}"
    problem = {
        "type": "about:blank",
        "title": phrase,
        "status": error.status_code,
        "detail": detail,
        "code": phrase.lower().replace(" ", "-"),
    }
    return _response(problem, error.status_code, headers)


def _reason(error: HTTPException) -> str:
    details = error.extra if isinstance(error.extra, list) else []
    found = [
        f"{item.get('key', '')}: {item.get('message', '')}".removeprefix(": ")
        for item in details
        if isinstance(item, dict)
    ]
    return "; ".join(found) or error.detail


def _undecodable(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    return problem_response(MalformedMessage(name="the request", reason=str(error)))


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    reference = uuid.uuid4().hex[:12]
    _log.error(
        "request failed unexpectedly",
        reference=reference,
        method=str(request.method),
        path=request.scope["path"],
        exc_info=error,
    )
    return problem_response(Unexpected(reference=reference))


__all__ = ["MEDIA_TYPE", "problem_handlers", "problem_response", "read_json"]
