"""One attempt over aiohttp: a pooled connection, a bounded answer, and what went wrong if not."""

import os
import socket
import ssl
from collections.abc import AsyncGenerator, Mapping
from typing import NoReturn

import aiohttp
from yarl import URL

from headwater._http.session import HttpSession, http_session
from headwater.client.messages import READS, Failure, Reply, Request
from headwater.errors import (
    ConnectionLost,
    HeadwaterError,
    InvalidInput,
    Outcome,
    RemoteError,
    Unreachable,
)

REDIRECTS = frozenset({301, 302, 303, 307, 308})
REDIRECTS_MAX = 5


class Transport:
    """Connections of one event loop: pooled ones for calls, and separate ones for streams."""

    def __init__(
        self,
        *,
        connections: int,
        connect_timeout_s: float,
        answer_bytes_max: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Open no more than ``connections`` to one address for calls, as many for streams."""
        self._tls = tls
        self._answer_bytes_max = answer_bytes_max
        self._connect_timeout_s = connect_timeout_s
        self._calls = self._session(connections)
        self._streams = self._session(connections)

    def _session(self, connections: int) -> HttpSession:
        session = http_session(
            connect_timeout_s=self._connect_timeout_s,
            connections=connections,
            tls=self._tls,
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
        )
        # Else it repeats GET, HEAD, PUT and DELETE by itself when a connection breaks; whether a
        # request is sent again is for `Run` to decide, and there is no public switch.
        session._retry_connection = False  # noqa: SLF001
        return session

    async def send(
        self, base: str, instance: str, request: Request, headers: Mapping[str, str]
    ) -> Reply:
        """Send once and read the whole answer.

        Raises:
            Failure: there is no answer, or one that is too large or not HTTP.
        """
        method, url = request.method, _url(base, request.path)
        try:
            for _ in range(REDIRECTS_MAX):
                async with self._calls.request(
                    method, url, data=request.body or None, headers=headers,
                    allow_redirects=False,
                ) as response:  # fmt: skip
                    further = _same_host_redirect(method, url, response)
                    if further is None:
                        body = await self._read(response, base)
                        outcome: Outcome | None = "not stored" if method in READS else None
                        return Reply(response.status, response.headers, body, instance, outcome)
                    url = further
        except (aiohttp.ClientError, OSError, ValueError) as error:
            _fail(error, base)
        detail = f"redirected more than {REDIRECTS_MAX} times, last to {url}"
        raise Failure(RemoteError(source=base, remote_status=310, detail=detail), sent=True)

    async def open(
        self, base: str, instance: str, request: Request, headers: Mapping[str, str]
    ) -> "Stream":
        """Send once and return when the answer has begun; its body is read from the `Stream`.

        Raises:
            Failure: there is no answer.
        """
        try:
            response = await self._streams.request(
                request.method, _url(base, request.path), data=request.body or None,
                headers=headers, allow_redirects=False,
            )  # fmt: skip
        except (aiohttp.ClientError, OSError, ValueError) as error:
            _fail(error, base)
        return Stream(response, base, instance, self._answer_bytes_max)

    async def close(self) -> None:
        """Close all connections."""
        await self._calls.close()
        await self._streams.close()

    async def _read(self, response: aiohttp.ClientResponse, base: str) -> bytes:
        return await _read_bounded(response, base, self._answer_bytes_max)


class Stream:
    """An answer whose body is still arriving. Close it, also after an error."""

    def __init__(
        self, response: aiohttp.ClientResponse, base: str, instance: str, bytes_max: int
    ) -> None:
        """Wrap an answer whose head has arrived."""
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.instance = instance
        self._response = response
        self._base = base
        self._bytes_max = bytes_max

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives.

        Raises:
            ConnectionLost: the connection broke before the end of the body.
        """
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionLost(target=self._base, reason=_reason(error)) from error

    async def read(self) -> bytes:
        """Return the whole body, bounded.

        Raises:
            HeadwaterError: as for a call whose answer breaks off or is too large.
        """
        try:
            return await _read_bounded(self._response, self._base, self._bytes_max)
        except Failure as failure:
            raise failure.error from failure
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionLost(target=self._base, reason=_reason(error)) from error

    def close(self) -> None:
        """Drop the connection. Twice is fine."""
        self._response.close()


async def _read_bounded(response: aiohttp.ClientResponse, base: str, bytes_max: int) -> bytes:
    length = response.content_length
    if length is not None and length <= bytes_max and "Content-Encoding" not in response.headers:
        return await response.read()
    parts: list[bytes] = []
    size = 0
    if length is None or length <= bytes_max:
        async for part in response.content.iter_any():
            size += len(part)
            if size > bytes_max:
                break
            parts.append(part)
        else:
            return b"".join(parts)
    response.close()
    detail = f"the answer is larger than {bytes_max} bytes: ask for less, or raise the limit"
    error = RemoteError(source=base, remote_status=response.status, detail=detail)
    raise Failure(error, sent=True, final=True)


def _url(base: str, path: str) -> URL:
    text = base + path
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise InvalidInput(reason=f"{text[:200]!r} is not an encoded URL: percent-encode its parts")
    return URL(text, encoded=True)


def _same_host_redirect(method: str, url: URL, response: aiohttp.ClientResponse) -> URL | None:
    if response.status not in REDIRECTS or method not in ("GET", "HEAD"):
        return None
    location = response.headers.get("Location")
    if not location:
        return None
    further = url.join(URL(location))
    return further if further.origin() == url.origin() else None


def _fail(error: Exception, base: str) -> NoReturn:
    sent = True
    found: HeadwaterError
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        sent, found = False, Unreachable(target=base, reason=_reason(error))
    elif isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        found = ConnectionLost(target=base, reason=_reason(error))
    elif isinstance(error, aiohttp.ClientResponseError):
        found = RemoteError(source=base, remote_status=502, detail=f"not HTTP: {error.message}")
    else:  # aiohttp refuses control characters in headers before anything is sent
        raise InvalidInput(reason=f"the request cannot be sent: {error}") from error
    raise Failure(found, sent=sent) from error


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        if isinstance(cause, ssl.SSLError | socket.gaierror):  # their numbers are not the system's
            return str(cause)
        return os.strerror(cause.errno).lower() if cause.errno else str(cause)
    return str(error) or type(error).__name__


__all__ = ["Stream", "Transport"]
