"""Keeps one instance registered with every registry, for as long as it is wanted."""

import asyncio
import contextlib
import random
from urllib.parse import quote

import aiohttp
import msgspec
import structlog

from headwater._http.follow import BACKOFF_S_MAX, BACKOFF_S_MIN, read_problem
from headwater._http.session import HttpSession
from headwater._http.signal import Signal, wait_for
from headwater.discovery.api import Instance
from headwater.errors import HeadwaterError, InstanceNotFound, Unavailable, from_problem

_log = structlog.get_logger("headwater.discovery")
_encode = msgspec.json.Encoder().encode


class Registration:
    """One instance at several registries: each has its own task, so a dead one delays nobody.

    Registries share nothing: whoever is asked knows every instance, because every instance
    registers with all of them.
    """

    def __init__(
        self,
        instance: Instance,
        urls: tuple[str, ...],
        *,
        session: HttpSession,
        request_timeout_s: float,
    ) -> None:
        """Describe it; `start` begins."""
        self.instance = instance
        self._urls = urls
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=request_timeout_s)
        self._request_timeout_s = request_timeout_s
        self._wake = Signal()
        self._progress = Signal()
        self._tried: dict[str, Instance] = {}
        self._known: dict[str, Instance] = {}
        self._errors: dict[str, str] = {}
        self._refusal: HeadwaterError | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def registered_with(self) -> tuple[str, ...]:
        """The registries that have its current state."""
        return tuple(url for url, known in self._known.items() if known is self.instance)

    @property
    def error(self) -> str:
        """The latest failures, for a message."""
        return "; ".join(f"{url}: {error}" for url, error in self._errors.items())

    def start(self) -> None:
        """Register and renew in the background from now on."""
        self._tasks = [
            asyncio.create_task(self._keep(url), name=f"register {self.instance.id} at {url}")
            for url in self._urls
        ]

    async def wait_registered(self) -> None:
        """Return when a registry has it.

        Raises:
            HeadwaterError: a registry refuses it (`MalformedMessage`); trying again is no use.
        """
        while not self.registered_with:
            following = self._progress.next
            if self._refusal is not None:
                raise self._refusal
            await following.wait()

    async def update(self, instance: Instance) -> None:
        """Replace it, and return when each registry was told or the request time-out passed.

        Raises:
            HeadwaterError: a registry refuses it (`MalformedMessage`).
        """
        self.instance, self._refusal = instance, None
        self._wake.send()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._request_timeout_s):
                while any(self._tried.get(url) is not instance for url in self._urls):
                    await self._progress.next.wait()
        if self._refusal is not None:
            raise self._refusal

    def check(self) -> None:
        """Renew at once: a registry may have lost it."""
        self._wake.send()

    async def stop(self, *, remove: bool) -> None:
        """Renew no more; with ``remove`` also tell the registries, within the request time-out."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if remove:
            await asyncio.gather(*(self._remove(url) for url in self._urls))

    async def _keep(self, url: str) -> None:
        failures = 0
        while True:
            instance, following = self.instance, self._wake.next
            try:
                await self._tell(url, instance)
            except (aiohttp.ClientError, TimeoutError, OSError, HeadwaterError) as error:
                self._failed(url, error)
                delay_s = min(BACKOFF_S_MAX, instance.lease_s / 3, BACKOFF_S_MIN * 2**failures)
                failures = min(failures + 1, 10)
            else:
                failures = 0
                self._errors.pop(url, None)
                delay_s = instance.lease_s / 3
            self._tried[url] = instance
            self._progress.send()
            spread = random.uniform(0.8, 1.0)  # noqa: S311 - spreads load, no secret
            await wait_for(following, delay_s * spread)

    async def _tell(self, url: str, instance: Instance) -> None:
        if self._known.get(url) is instance:
            try:
                await self._request("PUT", f"{url}{_path(instance.id)}/lease")
            except InstanceNotFound:
                _log.info("the registry lost this instance", id=instance.id, url=url)
                del self._known[url]
            else:
                return
        new = url not in self._known
        await self._request("POST", f"{url}/v1/instances", _encode(instance))
        self._known[url] = instance
        if new:
            _log.info("registered", id=instance.id, status=instance.status, url=url)

    async def _remove(self, url: str) -> None:
        try:
            await self._request("DELETE", f"{url}{_path(self.instance.id)}")
        except InstanceNotFound:
            pass
        except (aiohttp.ClientError, TimeoutError, OSError, HeadwaterError) as error:
            _log.info("not deregistered, the lease will run out", url=url, reason=_words(error))

    async def _request(self, method: str, url: str, body: bytes | None = None) -> None:
        headers = {"Content-Type": "application/json"} if body is not None else None
        async with self._session.request(
            method, url, data=body, headers=headers, timeout=self._timeout
        ) as answer:
            if answer.status >= 400:
                raise from_problem(await read_problem(answer), status=answer.status, source=url)
            await answer.read()

    def _failed(self, url: str, error: Exception) -> None:
        reason = _words(error)
        refused = isinstance(error, HeadwaterError) and not isinstance(error, Unavailable)
        if refused and isinstance(error, HeadwaterError) and error.status < 500:
            self._refusal = error
        if self._errors.get(url) != reason:
            _log.warning("cannot register, trying again", url=url, reason=reason)
        self._errors[url] = reason


def _path(id: str) -> str:
    return f"/v1/instances/{quote(id, safe='')}"


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


__all__ = ["Registration"]
