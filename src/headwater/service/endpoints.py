"""Commands and queries as endpoints: plain ASGI, because these are the requests that are many.

Each is surrounded by admission, the deadline, problem details and metrics.
"""

import asyncio
import functools
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, get_args
from urllib.parse import parse_qsl

import msgspec

from headwater._http.problems import MEDIA_TYPE, problem_of
from headwater.dispatch import CommandMessage, QueryMessage
from headwater.dispatch.http import HttpForm
from headwater.dispatch.local import LocalCommandBus, LocalQueryBus
from headwater.errors import (
    DeadlineExceeded,
    Draining,
    MalformedMessage,
    Overloaded,
    TooLarge,
    ViewNotFound,
)
from headwater.messages import ConsistencyToken, Metadata, Principal, handling
from headwater.messages.headers import (
    CAUSATION_ID,
    CONSISTENCY_TOKEN,
    CORRELATION_ID,
    IDEMPOTENCY_KEY,
    IF_MATCH,
    KEEP_REFUSAL,
    TENANT,
    TIMEOUT_MS,
    TRACEPARENT,
    expected_version,
    from_headers,
    idempotency_key,
    keep_refusal,
)
from headwater.service.authentication import Identify, identified
from headwater.service.content import CONTENT_TYPE, ORIGIN, check_content
from headwater.service.metrics import Metrics
from headwater.service.router import Endpoint
from headwater.service.settings import ServiceSettings

_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", MEDIA_TYPE.encode())
_TOKEN = CONSISTENCY_TOKEN.encode()
_WANTED = {
    name.encode(): name
    for name in (
        "content-length",
        "host",
        CONTENT_TYPE,
        ORIGIN,
        IDEMPOTENCY_KEY,
        IF_MATCH,
        KEEP_REFUSAL,
        CONSISTENCY_TOKEN,
        TIMEOUT_MS,
        CORRELATION_ID,
        CAUSATION_ID,
        TENANT,
        TRACEPARENT,
    )
}
_SINGLE = frozenset({IDEMPOTENCY_KEY, IF_MATCH})  # of which a second one may mean something else
_CLIENT_LEFT = 499

Headers = dict[str, str]
Fields = list[tuple[bytes, bytes]]


class _Request(NamedTuple):
    """A request that was admitted."""

    scope: Any
    receive: Any
    values: dict[str, str]
    headers: Headers
    metadata: Metadata
    principal: Principal
    deadline: float

    def handling(self, token: str) -> AbstractContextManager[None]:
        """Make it the current context."""
        return handling(
            self.metadata, deadline=self.deadline, token=token, principal=self.principal
        )


Answer = Callable[[_Request], Awaitable[tuple[Fields, bytes]]]


class _ClientLeftError(Exception):
    """The client went away while it was still sending; nobody waits for an answer."""


class Endpoints:
    """Makes the endpoints of one instance, and counts what is in progress in them."""

    def __init__(
        self,
        settings: ServiceSettings,
        commands: LocalCommandBus,
        queries: LocalQueryBus,
        metrics: Metrics,
        *,
        identify: Identify,
    ) -> None:
        """Serve these buses.

        Args:
            settings: limits and names.
            commands: the commands that are served.
            queries: the queries that are served.
            metrics: where requests are counted.
            identify: finds out who asks.
        """
        self._identify = identify
        self._settings = settings
        self._commands = commands
        self._queries = queries
        self._metrics = metrics
        self.in_progress = 0
        self.draining = False

    def endpoint(self, form: HttpForm) -> Endpoint:
        """Return the endpoint of one message."""
        answer = self._command(form) if form.kind.kind == "command" else self._query(form)
        return self._guarded(form, answer)

    def _command(self, form: HttpForm) -> Answer:
        limit_bytes = self._settings.max_body_bytes

        async def answer(request: _Request) -> tuple[Fields, bytes]:
            headers = request.headers
            check_content(headers)
            key, version = idempotency_key(headers), expected_version(headers)
            body = await _body(request, limit_bytes)
            command = form.command(request.values, body)
            token = headers.get(CONSISTENCY_TOKEN, "")
            message = CommandMessage(
                command,
                request.metadata,
                key,
                expected_version=version,
                keep_refusal=keep_refusal(headers),
            )
            with request.handling(token):
                result = await self._commands.dispatch(message)
            told = [(_TOKEN, result.token.encode()), (b"etag", b'"%d"' % result.version), _JSON]
            return told, _encode(result)

        return answer

    def _query(self, form: HttpForm) -> Answer:
        optional = type(None) in get_args(form.kind.answer)

        async def answer(request: _Request) -> tuple[Fields, bytes]:
            query = form.query(request.values, _parameters(request.scope["query_string"]))
            text = request.headers.get(CONSISTENCY_TOKEN, "")
            token = ConsistencyToken.decode(text) if text else None
            with request.handling(text):
                found = await self._queries.dispatch(QueryMessage(query, request.metadata, token))
            if found is None and not optional:
                raise ViewNotFound(view=form.kind.name, key=form.kind.target_of(query))
            return [_JSON], _encode(found)

        return answer

    def _guarded(self, form: HttpForm, answer: Answer) -> Endpoint:
        """Surround an answer with admission, the deadline, problem details and metrics."""
        note = self._metrics.route(form.route.method, form.route.path)
        limit_bytes = self._settings.max_body_bytes

        async def endpoint(scope: Any, receive: Any, send: Any, values: dict[str, str]) -> None:
            began = time.perf_counter()
            status = 200
            self.in_progress += 1
            try:
                self._admit()
                told, body = await self._in_time(form, answer, scope, receive, values)
            except _ClientLeftError:
                note(_CLIENT_LEFT, began)
                return
            except Exception as error:  # noqa: BLE001  # each becomes a problem document
                status, headers, body = problem_of(error, scope, limit_bytes=limit_bytes)
                told = [(name.encode(), text.encode("latin-1")) for name, text in headers.items()]
                told.append(_PROBLEM)
            finally:
                self.in_progress -= 1
            note(status, began)
            await respond(send, status, told, body)

        return endpoint

    async def _in_time(
        self, form: HttpForm, answer: Answer, scope: Any, receive: Any, values: dict[str, str]
    ) -> tuple[Fields, bytes]:
        headers = request_headers(scope)
        metadata, deadline = from_headers(headers)
        allowed_s = self._settings.request_timeout_s
        if deadline is not None:
            allowed_s = min(allowed_s, deadline - time.monotonic())
        if allowed_s <= 0:
            raise DeadlineExceeded(action=form.kind.name, timeout_s=0.0, outcome="not stored")
        try:
            async with asyncio.timeout(allowed_s):
                ends = time.monotonic() + allowed_s
                principal = await self._identify(scope)
                metadata = identified(metadata, principal)
                request = _Request(scope, receive, values, headers, metadata, principal, ends)
                return await answer(request)
        except TimeoutError:
            name = form.kind.name
            raise DeadlineExceeded(action=name, timeout_s=allowed_s) from None

    def _admit(self) -> None:
        limit = self._settings.max_in_progress
        if self.in_progress > limit:
            self._metrics.rejected.inc()
            raise Overloaded(limit=limit)
        if self.draining:
            self._metrics.rejected.inc()
            raise Draining(service=self._settings.service)


async def respond(send: Any, status: int, headers: Fields, body: bytes) -> None:
    """Answer a request of ASGI as a whole."""
    fields = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def request_headers(scope: Any) -> Headers:
    """Return the first header of each name that means something here; names are lower-case.

    Raises:
        MalformedMessage: the host is not one (RFC 3986, section 3.2.2), or a header of which there
            may be one only is there twice.
    """
    headers: Headers = {}
    for name, value in scope["headers"]:
        wanted = _WANTED.get(name)
        if wanted is None:
            continue
        if wanted not in headers:
            headers[wanted] = value.decode("latin-1")
        elif wanted in _SINGLE:
            reason = "it is there more than once: send one, or none"
            raise MalformedMessage(name=f"header {wanted}", reason=reason)
    if not _is_host(headers.get("host", "")):
        raise MalformedMessage(name="the request", reason="invalid host header")
    return headers


@functools.lru_cache(256)
def _is_host(text: str) -> bool:
    return re.fullmatch(r"[0-9A-Za-z!$&'()*+,;=\-._~:\[\]@%]*", text) is not None


async def _body(request: _Request, limit_bytes: int) -> bytes:
    """Return the whole body.

    Raises:
        TooLarge: it is larger, or announced to be; no more is read than shows that.
        _ClientLeftError: the connection ended before the body did.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise TooLarge(limit_bytes=limit_bytes)
    body: bytes = b""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise _ClientLeftError
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            raise TooLarge(limit_bytes=limit_bytes)
        if not message.get("more_body", False):
            return body


def _parameters(query_string: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if query_string:
        for name, value in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
            found.setdefault(name, []).append(value)
    return found


__all__ = ["Endpoints", "request_headers", "respond"]
