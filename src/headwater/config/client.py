"""The configuration service's client: fetches at start, then follows changes."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import quote

import msgspec
import structlog

from headwater._http.follow import EventSource, base_urls, sleep_backoff
from headwater._http.session import HttpSession, http_session
from headwater.config import cache
from headwater.config.api import ConfigDocument
from headwater.config.settings import Binder, BoundSettings
from headwater.errors import ConfigurationError, StartupError

T = TypeVar("T")

_log = structlog.get_logger("headwater.config")
_decode = msgspec.json.Decoder(ConfigDocument).decode


class ConfigClient:
    """Implements `Config` over HTTP with one or several servers of the same directory.

    It follows one server, the next when that fails. Once loaded, a process keeps its
    configuration while no server answers.
    """

    def __init__(
        self,
        urls: str | Iterable[str],
        app: str,
        profiles: str | Iterable[str] = (),
        label: str = "",
        *,
        start_timeout_s: float = 10.0,
        request_timeout_s: float = 2.0,
        idle_timeout_s: float = 15.0,
        optional: bool = False,
        cache_file: str | Path | None = None,
        environment: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Describe the client; nothing is requested yet.

        Args:
            urls: base URLs; one text may hold several, separated by commas.
            app: the application's name.
            profiles: the strongest last; one text may hold several, separated by commas.
            label: a label, such as a branch; an unknown one falls back to the root.
            start_timeout_s: how long `load` waits for the first answer.
            request_timeout_s: bound of one attempt to connect.
            idle_timeout_s: a silent watch counts as broken after this.
            optional: start from ``cache_file`` when no server answers.
            cache_file: where the last good document is kept.
            environment: variables for overrides; those of the process when not given.
            tls: for https, such as one that knows a private authority; by default the system's.

        Raises:
            ConfigurationError: a URL is none, or ``optional`` is without ``cache_file``.
        """
        if optional and cache_file is None:
            raise ConfigurationError(
                subject="configuration client", reason="optional needs a cache_file: name one"
            )
        self._urls = base_urls(urls, subject="configuration")
        self._tls = tls
        self._path = _watch_path(app, profiles, label)
        self._start_timeout_s = start_timeout_s
        self._request_timeout_s = request_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._optional = optional
        self._cache_file = Path(cache_file) if cache_file is not None else None
        self._binder = Binder(app, os.environ if environment is None else environment)
        self._version = ""
        self._first = asyncio.Event()
        self._session: HttpSession | None = None
        self._source: EventSource | None = None
        self._task: asyncio.Task[None] | None = None

    async def load(self) -> ConfigDocument:
        """Fetch the configuration and follow it from now on. Twice is fine.

        Raises:
            StartupError: no server gave it within the start time-out, and there is no usable
                cache, or it was not asked for. Names the URL and the last reason.
        """
        if self._session is None:
            self._session = http_session(tls=self._tls)
            self._source = EventSource(
                self._urls,
                self._path,
                session=self._session,
                headers=lambda: {"Last-Event-ID": self._version} if self._version else {},
                idle_timeout_s=self._idle_timeout_s,
                connect_timeout_s=self._request_timeout_s,
            )
            self._task = asyncio.create_task(self._follow(self._source), name="follow config")
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await self._first.wait()
        except TimeoutError:
            self._load_cached()
        return self._binder.document

    @property
    def document(self) -> ConfigDocument:
        """The newest document, with environment overrides."""
        return self._binder.document

    @property
    def url(self) -> str:
        """The server it follows now; empty while none answers."""
        return self._source.url if self._source else ""

    def bind(self, type: type[T], *, prefix: str = "") -> T:
        """Return a section as a msgspec Struct (or any type), converted and validated.

        Raises:
            ConfigurationError: names key, value, what was expected, and the origin.
        """
        return self._binder.bind(type, prefix)

    def settings(self, type: type[T], *, prefix: str = "") -> BoundSettings[T]:
        """Return a section as `bind` does, kept current. An invalid change is refused and logged.

        Raises:
            ConfigurationError: the present value is invalid already.
        """
        return self._binder.settings(type, prefix)

    async def close(self) -> None:
        """Follow no more; what was loaded stays. Twice is fine."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        """Load; what was opened is closed again when that fails."""
        try:
            await self.load()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def _follow(self, source: EventSource) -> None:
        while True:
            try:
                async with contextlib.aclosing(source.events()) as events:  # type: ignore[type-var] # an async generator
                    async for event in events:
                        if event.name == "config":
                            await self._take(_decode(event.data))
            except (msgspec.MsgspecError, RecursionError) as error:
                _log.error("the server sent something unknown", url=source.url, reason=str(error))
                await sleep_backoff(5)

    async def _take(self, document: ConfigDocument) -> None:
        if self._version:
            _log.info("configuration changed", name=document.name, version=document.version)
        self._version = document.version
        self._binder.take(document)
        if self._cache_file is not None:
            await asyncio.to_thread(cache.save, self._cache_file, document)
        self._first.set()

    def _load_cached(self) -> None:
        assert self._source is not None
        where = ", ".join(self._urls)
        reason = f"no answer within {self._start_timeout_s:g} s ({self._source.error})"
        if not self._optional or self._cache_file is None:
            raise StartupError(
                subject=f"configuration at {where}",
                reason=f"{reason}: start the configuration service, or correct its URL",
            )
        document, why = cache.read(self._cache_file)
        if document is None:
            raise StartupError(
                subject=f"configuration at {where}",
                reason=f"{reason}, and the local copy {why}: start the configuration service",
            )
        _log.warning("started from the local copy", reason=reason, version=document.version)
        self._binder.take(document)
        self._first.set()


def _watch_path(app: str, profiles: str | Iterable[str], label: str) -> str:
    listed = profiles.split(",") if isinstance(profiles, str) else list(profiles)
    names = ",".join(profile.strip() for profile in listed if profile.strip()) or "default"
    parts = [app, names, *label.split("/")] if label else [app, names]
    return "/v1/watch/" + "/".join(quote(part, safe=",") for part in parts)


__all__ = ["ConfigClient"]
