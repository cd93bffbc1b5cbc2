"""Following an event stream for ever: over several servers, with reconnects and back-off."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from urllib.parse import urlsplit

import aiohttp
import msgspec
import structlog

from headwater._http.session import HttpSession
from headwater._http.sse import ServerSentEvent, decode_events
from headwater.errors import ConfigurationError, HeadwaterError, from_problem

BACKOFF_S_MIN, BACKOFF_S_MAX = 0.05, 2.0
_EVENT_BYTES = 2**20

_log = structlog.get_logger("headwater.http")


class EventSource:
    """One endless stream of server-sent events, from whichever of the servers answers.

    Attributes:
        url: the server it is connected to now; empty while it is not.
        error: why it is not connected; empty while it is.
        seen: monotonic time of the last sign of life of a server; 0 before the first.
    """

    def __init__(
        self,
        urls: tuple[str, ...],
        path: str,
        *,
        session: HttpSession,
        headers: Callable[[], Mapping[str, str]],
        idle_timeout_s: float,
        connect_timeout_s: float,
    ) -> None:
        """Describe the stream; nothing is requested yet.

        Args:
            urls: base URLs, tried in turn.
            path: the stream's path on each.
            session: what requests are made with.
            headers: asked before each request.
            idle_timeout_s: a stream that is silent for so long counts as broken.
            connect_timeout_s: bound of one attempt to connect.
        """
        self._urls = urls
        self._path = path
        self._session = session
        self._headers = headers
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_timeout_s, sock_read=idle_timeout_s
        )
        self.url = ""
        self.error = "not connected yet"
        self.seen = 0.0

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """Yield events for ever; a lost connection is made again, at the next server first."""
        attempt = 0
        while True:
            for url in self._urls:
                try:
                    async for event in self._once(url):
                        attempt = 0
                        yield event
                except (aiohttp.ClientError, TimeoutError, OSError, HeadwaterError) as error:
                    self._lost(url, str(error) or type(error).__name__)
                else:
                    self._lost(url, "the server ended the stream")
            await sleep_backoff(attempt)
            attempt += 1

    async def _once(self, url: str) -> AsyncIterator[ServerSentEvent]:
        async with self._session.get(
            url + self._path,
            headers={"Accept": "text/event-stream", **self._headers()},
            timeout=self._timeout,
            read_bufsize=_EVENT_BYTES,
        ) as answer:
            if answer.status != 200:
                raise from_problem(await read_problem(answer), status=answer.status, source=url)
            if self.error:
                _log.info("following", url=url + self._path)
            self.url, self.error = url, ""
            self.seen = time.monotonic()
            async for event in decode_events(answer.content.iter_any()):
                self.seen = time.monotonic()
                if event is not None:
                    yield event

    def _lost(self, url: str, reason: str) -> None:
        if not self.error:
            _log.warning("lost the stream, connecting again", url=url + self._path, reason=reason)
        self.url, self.error = "", f"{url}: {reason}"


async def read_problem(answer: aiohttp.ClientResponse) -> object:
    """Return the problem document of an error answer, or its text."""
    content = await answer.read()
    try:
        return msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return content.decode(errors="replace")


async def sleep_backoff(attempt: int) -> None:
    """Wait before the next attempt: doubling, bounded, spread so that not all come at once."""
    limit_s = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2 ** min(attempt, 10))
    await asyncio.sleep(limit_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, no secret


def base_urls(urls: str | Iterable[str], *, subject: str) -> tuple[str, ...]:
    """Return base URLs without trailing slashes; a text may hold several, separated by commas.

    Raises:
        ConfigurationError: there is none, or one is not ``http(s)://host``.
    """
    listed = urls.split(",") if isinstance(urls, str) else list(urls)
    found = tuple(url.strip().rstrip("/") for url in listed if url.strip())
    if not found:
        raise ConfigurationError(subject=subject, reason="no URL is given: name at least one")
    for url in found:
        try:
            parts = urlsplit(url)
            fine = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:  # a port that is no number, or out of range
            fine = False
        if not fine:
            raise ConfigurationError(
                subject=subject, reason=f"{url!r} is not a URL: use http://host:port"
            )
    return found


__all__ = ["EventSource", "base_urls", "read_problem", "sleep_backoff"]
