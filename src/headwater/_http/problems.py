"""Every error leaves an HTTP edge as a problem document (RFC 9457).

What a store's error says of its place (host, schema, path, user) is for the log; a caller is told
what kind of store it is, what became of its request, and what to do.
"""

import math
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, SerializationException
from litestar.types import ExceptionHandlersMap
from msgspec.json import Decoder as JsonDecoder

from headwater.errors import (
    DiskFull,
    HeadwaterError,
    MalformedMessage,
    Outcome,
    RouteNotFound,
    StoreError,
    StoreUnavailable,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unexpected,
)

MEDIA_TYPE = "application/problem+json"

T = TypeVar("T")

_log = structlog.get_logger("headwater.http")

_REPEAT_S = 1.0  # while a store is away every request fails: the log says it once in a while
_told: dict[str, float] = {}
_TOLD_MAX = 100

_FAULT = HTTPStatus.INTERNAL_SERVER_ERROR
_OF_STORES = (StoreUnavailable, DiskFull, StoreError)
_READS = frozenset({"GET", "HEAD"})
_ADVICE: dict[Outcome, str] = {  # to who asked for a change of a store that cannot be used
    "unknown": "retry",  # the error itself says more
    "stored": "this was stored before: send it again to be told the outcome",
    "not stored": "nothing was stored: retry",
}


class Problem(NamedTuple):
    """An error as it is answered; the names of headers are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes


def problem_handlers(*, limit_bytes: int = 0) -> ExceptionHandlersMap:
    """Return Litestar exception handlers that answer every exception as `problem_of` says.

    Args:
        limit_bytes: the app's body limit, for the message of 413.
    """

    def answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        status, headers, body = problem_of(error, request.scope, limit_bytes=limit_bytes)
        return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)

    return {Exception: answer}


async def read_json(request: Request[Any, Any, Any], decoder: JsonDecoder[T], *, name: str) -> T:
    """Return the body of a request, decoded and validated.

    Raises:
        MalformedMessage: it is not JSON or of another shape; ``name`` says what it should be.
    """
    try:
        return decoder.decode(await request.body())
    except RecursionError:
        raise MalformedMessage(name=name, reason="it is nested too deep") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedMessage(name=name, reason=str(error)) from error


def problem_of(error: Exception, scope: Any, *, limit_bytes: int = 0) -> Problem:
    """Return the problem document of any exception that ends a request.

    Errors of `headwater.errors` keep their status, code and fields, and say ``Retry-After`` where
    waiting helps; those of a store name its kind instead of its place, which is in the log.
    Litestar's own become the nearest of them (404 `RouteNotFound`, 400
    `MalformedMessage`, 413 `TooLarge`); 405 keeps its ``Allow`` header. Anything else is answered
    as `Unexpected`. Each 500 is logged with its traceback, under the ``reference`` in its document.

    Args:
        error: what was raised.
        scope: the ASGI scope of the request.
        limit_bytes: the app's body limit, for the message of 413.
    """
    if isinstance(error, HTTPException):
        return _of_http_error(error, scope, limit_bytes)
    if isinstance(error, RecursionError) and _is_of_litestar(error):
        error = MalformedMessage(name="the request", reason="it is nested too deep")
    if isinstance(error, SerializationException):
        error = MalformedMessage(name="the request", reason=str(error))
    reference = ""
    if not isinstance(error, HeadwaterError) or error.status == _FAULT:
        reference = _logged(error, scope)
        if not isinstance(error, HeadwaterError) or isinstance(error, Unexpected):
            error = Unexpected(reference=reference)
    elif isinstance(error, _OF_STORES):
        _tell(error, scope)
    reads = scope.get("method") in _READS
    if isinstance(error, _OF_STORES):
        error = _without_place(error, reads=reads)
    if reads and error.outcome != "not stored":
        error = error.replaced(outcome="not stored")
    return _of_own_error(error, reference=reference)


def _is_of_litestar(error: Exception) -> bool:
    """Whether an error was raised by what Litestar reads requests with, not by a handler."""
    traceback, module = error.__traceback__, ""
    while traceback is not None:
        module = traceback.tb_frame.f_globals.get("__name__", "")
        traceback = traceback.tb_next
    return module.startswith("litestar.")


def _without_place(
    error: StoreUnavailable | DiskFull | StoreError, *, reads: bool
) -> HeadwaterError:
    """Return an error of the same class that says nothing about where the store is.

    Whoever asked for a change is told what became of it; of a read nothing is to be said.
    """
    fields = error.fields()
    store = str(error.store)
    if store.startswith(("postgresql:", "postgres:")):
        fields["store"] = "PostgreSQL"
    elif "/" in store or "." in store:
        fields["store"] = "SQLite"
    if isinstance(error, StoreUnavailable):
        advice = "retry" if reads else _ADVICE[error.outcome]
        fields["reason"] = f"it cannot be used at the moment; {advice}, after {_seconds(error)} s"
    elif fields.get("reason"):
        fields["reason"] = "what is stored cannot be used: whoever runs it finds why in the log"
    return error.replaced(**fields)


def _tell(error: HeadwaterError, scope: Any) -> None:
    """Log an error of a store whole; the same one at most once in a while."""
    text, now = str(error), time.monotonic()
    if now - _told.get(text, -math.inf) < _REPEAT_S:
        return
    if len(_told) >= _TOLD_MAX:
        _told.clear()
    _told[text] = now
    method, path = str(scope["method"]), scope["path"]
    _log.warning("store failed", method=method, path=path, code=error.code, error=text)


def _seconds(error: HeadwaterError) -> int:
    return max(1, math.ceil(error.retry_after_s)) if isinstance(error, Unavailable) else 1


def _of_own_error(
    error: HeadwaterError, headers: Mapping[str, str] | None = None, *, reference: str = ""
) -> Problem:
    headers = dict(headers or {})
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("retry-after", str(_seconds(error)))
    if isinstance(error, Unauthenticated):
        headers.setdefault("www-authenticate", "Bearer")
    document = error.to_problem()
    if reference:
        document["reference"] = reference
    return Problem(error.status, headers, msgspec.json.encode(document))


def _of_http_error(error: HTTPException, scope: Any, limit_bytes: int) -> Problem:
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    method, path = str(scope["method"]), scope["path"]
    if error.status_code == HTTPStatus.NOT_FOUND:
        raw = scope.get("raw_path", b"").decode("latin-1")
        return _of_own_error(RouteNotFound(method=method, path=raw or path), headers)
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return _of_own_error(TooLarge(limit_bytes=limit_bytes), headers)
    if error.status_code == HTTPStatus.BAD_REQUEST:
        malformed = MalformedMessage(name="the request", reason=_reason(error))
        return _of_own_error(malformed, headers)
    if error.status_code >= 500 and error.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
        reference = _logged(error, scope)
        return _of_own_error(Unexpected(reference=reference), reference=reference)
    phrase = HTTPStatus(error.status_code).phrase
    detail = f"{method} {path}: {error.detail}"
    if allowed := headers.get("allow"):
        detail = f"{detail}: allowed are {allowed}"
    problem = {
        "type": "about:blank",
        "title": phrase,
        "status": error.status_code,
        "detail": detail,
        "code": phrase.lower().replace(" ", "-"),
    }
    return Problem(error.status_code, headers, msgspec.json.encode(problem))


def _reason(error: HTTPException) -> str:
    details = error.extra if isinstance(error.extra, list) else []
    found = [
        f"{item.get('key', '')}: {item.get('message', '')}".removeprefix(": ")
        for item in details
        if isinstance(item, dict)
    ]
    return "; ".join(found) or error.detail


def _logged(error: Exception, scope: Any) -> str:
    """Log an error that is no fault of the caller with its traceback; return the reference."""
    reference = uuid.uuid4().hex[:12]
    _log.error(
        "request failed unexpectedly",
        reference=reference,
        method=str(scope["method"]),
        path=scope["path"],
        exc_info=error,
    )
    return reference


__all__ = ["MEDIA_TYPE", "Problem", "problem_handlers", "problem_of", "read_json"]
