"""From a declared client to an object that makes the calls."""

import copy
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from headwater._http.sse import decode_events
from headwater.client.answers import Answers, Decode, decode, error_of
from headwater.client.declarations import Declaration, declaration_of
from headwater.client.endpoints import Endpoint
from headwater.client.fallbacks import fallback_factory, falls_back
from headwater.client.http import HttpCaller
from headwater.client.messages import READS, Reply, Request
from headwater.discovery import Discovery
from headwater.errors import DeclarationError, HeadwaterError, Outcome, RemoteError

if TYPE_CHECKING:
    from headwater.client.transport import Stream

T = TypeVar("T")
Next = Callable[[Request], Awaitable[Reply]]
Interceptor = Callable[[Request, Next], Awaitable[Reply]]
Observer = Callable[[str, str, str, int, float], None]

EVENT_BYTES_MAX = 1024 * 1024
_CORE = "_headwater_core"


def connect(
    declared: Callable[..., T],
    *,
    discovery: Discovery | None = None,
    caller: HttpCaller | None = None,
    url: str = "",
    interceptors: Sequence[Interceptor] = (),
    observe: Observer | None = None,
    timeout_s: float | None = None,
    retries: int | None = None,
) -> T:
    """Return an object that implements a declared client over HTTP. Opens nothing yet.

    Errors of the other side come out as the same typed errors; what is no problem document of
    ours is a `RemoteError`. A 404 is None where the declared return type allows None, unless the
    service says that it has no such route. The fallback answers on `Unavailable`,
    `DeadlineExceeded`, faults of the service (500) and a `RemoteError` that is no 4xx; never on a
    rejection or another 4xx, and not once a stream has begun.

    A stream (``AsyncIterator[X]``) opens at its first item and ends when the server ends it;
    cancel the task that reads it to leave early, or declare ``AsyncGenerator[X, None]`` and use
    ``contextlib.aclosing``: both close the connection.

    Args:
        declared: the class decorated with `client`.
        discovery: resolves the service; used when no caller is given.
        caller: shared by all clients of a process; without one the client has its own, which
            `disconnect` closes.
        url: base URL, instead of the declared service or URL.
        interceptors: see each request before and each reply after; the first is the outermost.
            For a stream the reply has an empty body.
        observe: told service, verb, path template, status (0 without an answer) and seconds of
            each call, before the fallback; must not raise.
        timeout_s: instead of what the methods declare.
        retries: instead of what the methods declare.

    Raises:
        DeclarationError: the class is not decorated with `client`.
    """
    declaration = declaration_of(declared)
    core = _Core(
        declaration,
        caller=caller or HttpCaller(discovery),
        owns_caller=caller is None,
        url=url or declaration.url,
        interceptors=tuple(interceptors),
        observe=observe,
    )
    options = {"timeout_s": timeout_s, "retries": retries}
    changes = {name: value for name, value in options.items() if value is not None}
    methods = {
        name: core.method(_changed(endpoint, changes))
        for name, endpoint in declaration.endpoints.items()
    }
    cls: Any = type(f"{declaration.name}OverHttp", (declared,), {**methods, _CORE: core})  # type: ignore[arg-type]  # declaration_of has seen that it is a class
    connected: T = cls()
    return connected


async def disconnect(connected: object) -> None:
    """Close the connections of a client that has its own caller. Twice is fine.

    Raises:
        DeclarationError: the object was not returned by `connect`.
    """
    core = getattr(connected, _CORE, None)
    if not isinstance(core, _Core):
        raise DeclarationError(subject=repr(connected), reason="was not returned by connect()")
    await core.close()


class _Core:
    """What all methods of one connected client share."""

    def __init__(
        self,
        declaration: Declaration,
        *,
        caller: HttpCaller,
        owns_caller: bool,
        url: str,
        interceptors: tuple[Interceptor, ...],
        observe: Observer | None,
    ) -> None:
        self._caller = caller
        self._owns_caller = owns_caller
        self._service = "" if url else declaration.service
        self._url = url
        self._source = self._service or url
        self._interceptors = interceptors
        self._observe = observe
        self._send = self._intercepted(caller.call)
        made = declaration.fallback
        self._fallback = None if made is None else fallback_factory(made)

    async def close(self) -> None:
        if self._owns_caller:
            await self._caller.close()

    def method(self, endpoint: Endpoint) -> Callable[..., Any]:
        """Return the function that replaces a declared method."""
        request_of = functools.partial(endpoint.request, service=self._service, url=self._url)
        answers, items = endpoint.answers, endpoint.items
        if items is not None:

            def streaming(_: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
                values = endpoint.values(args, kwargs)
                return self._items(endpoint, items, request_of(values), values)

            return functools.wraps(endpoint.function)(streaming)

        async def calling(_: Any, *args: Any, **kwargs: Any) -> Any:
            values = endpoint.values(args, kwargs)
            return await self._call(endpoint, answers, request_of(values), values)

        return functools.wraps(endpoint.function)(calling)

    async def _call(
        self, endpoint: Endpoint, answers: Answers | None, request: Request, values: dict[str, Any]
    ) -> Any:
        assert answers is not None
        try:
            reply = await self._observed(endpoint, self._send, request)
            return answers.read(reply, self._source)
        except HeadwaterError as error:
            if self._fallback is None or not falls_back(error):
                raise
            return await getattr(self._fallback(error), endpoint.name)(**values)

    async def _items(
        self, endpoint: Endpoint, items: Decode, request: Request, values: dict[str, Any]
    ) -> AsyncIterator[Any]:
        try:
            stream = await self._open(endpoint, request)
        except HeadwaterError as error:
            if self._fallback is None or not falls_back(error):
                raise
            async for item in getattr(self._fallback(error), endpoint.name)(**values):
                yield item
            return
        chunks = _BoundedChunks(stream, self._source)
        try:
            async for event in decode_events(chunks):
                chunks.size = 0
                if event is not None:
                    yield decode(items, event.data, stream.status, self._source)
        finally:
            stream.close()

    async def _open(self, endpoint: Endpoint, request: Request) -> "Stream":
        opened: list[Stream] = []

        async def head(request: Request) -> Reply:
            stream = await self._caller.stream(request)
            for earlier in opened:
                earlier.close()
            opened[:] = [stream]
            outcome: Outcome | None = "not stored" if request.method in READS else None
            return Reply(stream.status, stream.headers, b"", stream.instance, outcome)

        try:
            reply = await self._observed(endpoint, self._intercepted(head), request)
            await self._check_head(reply, opened[0])
        except BaseException:
            for stream in opened:
                stream.close()
            raise
        return opened[0]

    async def _check_head(self, reply: Reply, stream: "Stream") -> None:
        if not 200 <= reply.status < 300:
            whole = msgspec.structs.replace(reply, body=await stream.read())
            raise error_of(whole, self._source)
        kind = stream.headers.get("Content-Type", "")
        if reply.status != 204 and not kind.startswith("text/event-stream"):
            detail = f"{kind or 'no content type'}, no event stream"
            raise RemoteError(source=self._source, remote_status=stream.status, detail=detail)

    async def _observed(self, endpoint: Endpoint, send: Next, request: Request) -> Reply:
        if self._observe is None:
            return await send(request)
        started = time.perf_counter()
        status = 0
        try:
            reply = await send(request)
            status = reply.status
        finally:
            seconds = time.perf_counter() - started
            self._observe(
                self._source, endpoint.method.verb, endpoint.template, status, seconds
            )  # fmt: skip
        return reply

    def _intercepted(self, send: Next) -> Next:
        for interceptor in reversed(self._interceptors):
            send = functools.partial(_around, interceptor, send)
        return send


class _BoundedChunks:
    """The chunks of a stream, until more than one event's worth came without an event."""

    def __init__(self, stream: "Stream", source: str) -> None:
        self.size = 0
        self._stream = stream
        self._source = source

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with aclosing(self._stream.chunks()) as chunks:
            async for chunk in chunks:
                self.size += len(chunk)
                if self.size > EVENT_BYTES_MAX:
                    detail = f"an event past {EVENT_BYTES_MAX} bytes"
                    status = self._stream.status
                    raise RemoteError(source=self._source, remote_status=status, detail=detail)
                yield chunk


async def _around(interceptor: Interceptor, following: Next, request: Request) -> Reply:
    return await interceptor(request, following)


def _changed(endpoint: Endpoint, changes: dict[str, Any]) -> Endpoint:
    if not changes:
        return endpoint
    changed = copy.copy(endpoint)
    changed.method = msgspec.structs.replace(endpoint.method, **changes)
    return changed
