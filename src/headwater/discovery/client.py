"""The discovery service's client: registers this process, and follows all others."""

import asyncio
import contextlib
import math
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Self

import msgspec
import structlog

from headwater._http.follow import EventSource, base_urls, sleep_backoff
from headwater._http.session import HttpSession, http_session
from headwater._http.signal import Signal
from headwater._http.sse import ServerSentEvent
from headwater.discovery.api import Instance, Standing
from headwater.discovery.feed import Delta, Snapshot
from headwater.discovery.registration import Registration
from headwater.discovery.table import InstanceTable
from headwater.errors import ConfigurationError, StartupError

_log = structlog.get_logger("headwater.discovery")
_snapshot = msgspec.json.Decoder(Snapshot).decode
_delta = msgspec.json.Decoder(Delta).decode
_UNKNOWN_S = 1.0  # before the first word of a registry: look again soon
_INSTANT_S = 0.001


class ClientStatus(msgspec.Struct, frozen=True):
    """How current a client's view is.

    Attributes:
        url: the registry it follows now; empty while none answers.
        error: why it follows none.
        stale_s: seconds since a registry last gave a sign of life; while following, at most its
            heartbeat.
        revision: the revision of the view.
        registered: for each own instance the registries that have it.
    """

    url: str
    error: str
    stale_s: float
    revision: int
    registered: dict[str, tuple[str, ...]]


class DiscoveryClient:
    """Implements `Discovery` over HTTP with one or several registries.

    It registers with all of them and follows one, the next when that fails. What it knows
    survives their absence. After a registry came back empty, or another took over, instances that
    it does not list yet stay known for one more lease: that is the time they have to register.
    """

    def __init__(
        self,
        urls: str | Iterable[str],
        *,
        start_timeout_s: float = 10.0,
        request_timeout_s: float = 2.0,
        idle_timeout_s: float = 15.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Describe the client; nothing is requested yet.

        Args:
            urls: base URLs of the registries; one text may hold several, separated by commas.
            start_timeout_s: how long `start` and `register` wait for the first answer.
            request_timeout_s: bound of one request.
            idle_timeout_s: a silent watch counts as broken after this; longer than the
                registry's heartbeat.
            tls: for https, such as one that knows a private authority; by default the system's.

        Raises:
            ConfigurationError: a URL is none.
        """
        self._urls = base_urls(urls, subject="discovery")
        self._tls = tls
        self._start_timeout_s = start_timeout_s
        self._request_timeout_s = request_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._table = InstanceTable()
        self._carried: dict[str, float] = {}  # known from another registry: until when
        self._epoch = ""
        self._revision = 0
        self._settled = math.inf
        self._began = time.monotonic()
        self._signal = Signal()
        self._first = asyncio.Event()
        self._registrations: dict[str, Registration] = {}
        self._session: HttpSession | None = None
        self._source: EventSource | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Follow the registry; what it knows is known here when this returns. Twice is fine.

        Raises:
            StartupError: no registry answered within the start time-out.
        """
        if self._closed:
            raise ConfigurationError(
                subject="discovery", reason="this client is closed: make a new one"
            )
        self._open()
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await self._first.wait()
        except TimeoutError:
            assert self._source is not None
            raise self._unreachable(self._source.error) from None

    async def register(self, instance: Instance) -> None:
        """Register with every registry and keep renewing until `deregister`.

        Returns when one of them has it. When this raises or is cancelled, nothing is renewed.

        Raises:
            StartupError: no registry answered within the start time-out.
            MalformedMessage: a registry refuses a field.
        """
        known = self._registrations.get(instance.id)
        if known is not None:
            await known.update(instance)
            return
        session = self._open()
        registration = Registration(
            instance, self._urls, session=session, request_timeout_s=self._request_timeout_s
        )
        self._registrations[instance.id] = registration
        registration.start()
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await registration.wait_registered()
                await self._first.wait()
        except BaseException as error:
            self._registrations.pop(instance.id, None)
            await registration.stop(remove=bool(registration.registered_with))
            if isinstance(error, TimeoutError):
                raise self._unreachable(registration.error) from None
            raise

    async def update(self, instance: Instance) -> None:
        """Replace the registration of the same id; registers when there is none.

        Returns when every registry was told, or did not answer within the request time-out; the
        renewals repeat it there.

        Raises:
            MalformedMessage: a registry refuses a field.
        """
        await self.register(instance)

    async def deregister(self, id: str) -> None:
        """Stop renewing and remove; does not raise when the registry is away. Twice is fine."""
        registration = self._registrations.pop(id, None)
        if registration is not None:
            await registration.stop(remove=True)

    def instances(self, service: str, *, role: str = "") -> tuple[Instance, ...]:
        """Return the live (UP) instances of a service; with a role also those of role ``all``."""
        return self._table.live(service, role)

    def services(self) -> Mapping[str, tuple[Instance, ...]]:
        """Return all known instances by service, of any status."""
        return self._table.services()

    def standing(self) -> Standing:
        """Return how far the view can be relied on."""
        now, source = time.monotonic(), self._source
        left_s = max(0.0, self._settled - now) if self._epoch else _UNKNOWN_S
        if source is not None and source.url:
            return Standing(left_s)
        since = source.seen if source is not None and source.seen else self._began
        return Standing(left_s, max(now - since, _INSTANT_S))

    async def changes(self) -> AsyncIterator[Mapping[str, tuple[Instance, ...]]]:
        """Yield `services` at once, and again soon after each change, until `close`.

        Raises:
            StartupError: the client was not started, and no registry answered in time.
        """
        await self.start()
        while not self._closed:
            following = self._signal.next
            yield self._table.services()
            await following.wait()

    def status(self) -> ClientStatus:
        """Return how current the view is."""
        source = self._source
        seen = source.seen if source else 0.0
        return ClientStatus(
            url=source.url if source else "",
            error=source.error if source else "not started",
            stale_s=time.monotonic() - seen if seen else float("inf"),
            revision=self._revision,
            registered={id: r.registered_with for id, r in self._registrations.items()},
        )

    async def close(self) -> None:
        """Deregister what is registered and stop. Twice is fine."""
        self._closed = True
        await asyncio.gather(*(self.deregister(id) for id in list(self._registrations)))
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._session is not None:
            await self._session.close()
            self._session = None
        self._signal.send()

    async def __aenter__(self) -> Self:
        """Start; what was opened is closed again when that fails."""
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    def _open(self) -> HttpSession:
        if self._session is None:
            self._session = http_session(tls=self._tls)
            self._source = EventSource(
                self._urls,
                "/v1/watch",
                session=self._session,
                headers=self._resume,
                idle_timeout_s=self._idle_timeout_s,
                connect_timeout_s=self._request_timeout_s,
            )
            self._task = asyncio.create_task(self._follow(self._source), name="follow discovery")
        return self._session

    def _resume(self) -> Mapping[str, str]:
        return {"Last-Event-ID": f"{self._epoch}.{self._revision}"} if self._epoch else {}

    async def _follow(self, source: EventSource) -> None:
        while True:
            try:
                async with contextlib.aclosing(source.events()) as events:  # type: ignore[type-var] # an async generator
                    async for event in events:
                        self._take(event)
            except (msgspec.MsgspecError, RecursionError) as error:
                _log.error("the registry sent something unknown", url=source.url, reason=str(error))
                self._epoch = ""  # begin with a snapshot
                await sleep_backoff(5)

    def _take(self, event: ServerSentEvent) -> None:
        if event.name == "snapshot":
            snapshot = _snapshot(event.data)
            self._replace(snapshot)
            self._epoch, self._revision = snapshot.epoch, snapshot.revision
            self._settled = time.monotonic() + snapshot.settling_s
        elif event.name == "changes":
            delta = _delta(event.data)
            for change in delta.changes:
                self._carried.pop(change.instance.id, None)
                if change.kind == "put":
                    self._evict(change.instance)
                    self._table.put(change.instance)
                else:
                    self._table.remove(change.instance.id)
            self._revision = delta.revision
        else:
            return  # a later version's event
        self._first.set()
        self._signal.send()

    def _replace(self, snapshot: Snapshot) -> None:
        listed = {instance.id: instance for instance in snapshot.instances}
        if self._epoch and snapshot.epoch != self._epoch:
            loop = asyncio.get_running_loop()
            taken = {instance.address for instance in snapshot.instances}
            for instance in self._table.all():
                if instance.address in taken:
                    continue
                if instance.id not in listed and instance.status != "DOWN":
                    listed[instance.id] = instance
                    self._carried[instance.id] = loop.time() + instance.lease_s
                    loop.call_later(instance.lease_s, self._drop_carried)
            for registration in self._registrations.values():
                registration.check()
        else:
            self._carried.clear()
        self._table.replace(listed.values())

    def _evict(self, instance: Instance) -> None:
        """Forget who was known from another registry at the address of a new instance."""
        for other in self._table.at(instance.address):
            if other.id != instance.id:
                self._carried.pop(other.id, None)
                self._table.remove(other.id)

    def _drop_carried(self) -> None:
        loop = asyncio.get_running_loop()
        if self._closed or self._source is None:
            return
        if not self._source.url:  # nobody can say that an instance is gone: ask again later
            loop.call_later(self._request_timeout_s, self._drop_carried)
            return
        now = loop.time() + 0.001
        gone = [id for id, deadline in self._carried.items() if deadline <= now]
        for id in gone:
            del self._carried[id]
            self._table.remove(id)
        if gone:
            self._signal.send()

    def _unreachable(self, error: str) -> StartupError:
        return StartupError(
            subject=f"discovery at {', '.join(self._urls)}",
            reason=f"no answer within {self._start_timeout_s:g} s ({error}): "
            "start the discovery service, or correct its URL",
        )


__all__ = ["ClientStatus", "DiscoveryClient"]
