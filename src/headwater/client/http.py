"""HTTP calls to services: an instance is chosen, watched, and replaced when it fails."""

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, Awaitable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import msgspec

from headwater.client.attempts import Answer, Policy, Run, Send
from headwater.client.hedging import first_answer
from headwater.client.instances import Group, Target
from headwater.client.messages import Credentials, Reply, Request
from headwater.discovery import Discovery, Instance
from headwater.errors import ConfigurationError, DeadlineExceeded, Overloaded
from headwater.messages import current
from headwater.messages.headers import SERVICE, TIMEOUT_MS, to_header, to_headers
from headwater.messages.metadata import remaining_s

if TYPE_CHECKING:
    from ssl import SSLContext

    from headwater.client.transport import Stream, Transport

A = TypeVar("A", bound=Answer)


class HttpCaller:
    """Makes HTTP calls; one for each process (and event loop), shared by everything in it.

    Health is learned from answers: who refuses connections, breaks them, times out or answers
    502, 503 or 504 several times in a row is left alone for a while, then probed by one call.
    When all instances of a service are in that state the one due first is tried all the same;
    for a base URL `CircuitOpen` is raised instead. A 503 with Retry-After is not a failure: the
    instance is only avoided until then.
    """

    def __init__(
        self,
        discovery: Discovery | None = None,
        *,
        zone: str = "",
        connections: int = 100,
        waiting: int = 1000,
        connect_timeout_s: float = 1.0,
        patience_s: float = 1.0,
        eject_after: int = 5,
        answer_bytes_max: int = 64 * 1024 * 1024,
        tls: "SSLContext | None" = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            discovery: resolves services; only base URLs can be called without one.
            zone: instances of this zone are preferred.
            connections: to one instance, at most.
            waiting: calls that wait for one of them, at most; one more raises `Overloaded`.
            connect_timeout_s: for one connection.
            patience_s: how long a call waits for an instance to appear or to accept connections,
                so that a restart goes unnoticed; nothing has been sent until then.
            eject_after: consecutive failures after which an instance is left alone.
            answer_bytes_max: a larger answer is refused.
            tls: for https, such as one that knows a private authority; by default the system's.
            credentials: asked once for each call, within its time, for headers that prove who
                calls; it sees where the request goes. Headers of the request go before.
        """
        self._discovery = discovery
        self._zone = zone
        self._connections = connections
        self._connect_timeout_s = connect_timeout_s
        self._answer_bytes_max = answer_bytes_max
        self._tls = tls
        self._credentials = credentials
        limit = connections + waiting
        self._policy = Policy(eject_after=eject_after, limit=limit, patience_s=patience_s)
        self._groups: dict[tuple[str, str, str], Group] = {}
        self._targets: WeakValueDictionary[str, Target] = WeakValueDictionary()
        self._arrivals = 0
        self._transport: Transport | None = None

    async def call(self, request: Request) -> Reply:
        """Send a request and return the answer, whatever its status.

        The instance is the one of the routing key, else the less busy of two drawn at random.
        A connection that cannot be made leads to the next instance at once. Anything else is
        repeated up to ``retries`` times, on another instance if there is one, only where it is
        safe: the method is idempotent, or the request is marked so, or it has an idempotency
        key; only after a lost connection, an attempt that took more than its share of the time,
        or a 502, 503 (when Retry-After allows) or 504; with exponential back-off and full
        jitter, and never past the deadline. Everything else is sent at most once.

        Cancellation closes the connection; the request may have been carried out.

        Raises:
            NoInstance: nobody offers the service, also after a short wait.
            Unreachable: no instance accepts connections; nothing was sent.
            ConnectionLost: the connection broke; the request may have been carried out.
            CircuitOpen: the base URL failed repeatedly a moment ago.
            Overloaded: too many calls wait for the instances already.
            DeadlineExceeded: the time is over; the request may have been carried out.
            RemoteError: the answer is not HTTP, too large, or a circle of redirects.
            InvalidInput: the path or a header cannot be sent.
            ConfigurationError: neither a service nor an http(s) URL is named, or a service is
                but there is no discovery.
        """
        group = self._group(request)
        request = await self._proved(request)
        transport = self._transport or self._open()
        run = self._run(request, group, transport.send)
        if not request.hedge_s or request.method not in ("GET", "HEAD"):
            return await run.answer()

        left_s = max(0.0, request.timeout_s - request.hedge_s)
        later = msgspec.structs.replace(request, timeout_s=left_s)

        def elsewhere() -> Awaitable[Reply]:
            return self._run(later, group, transport.send, tried={run.at}).answer()

        return await first_answer(run.answer, elsewhere, delay_s=request.hedge_s)

    async def stream(self, request: Request) -> "Stream":
        """Send a request and return when the answer begins; close the returned stream.

        ``timeout_s`` bounds the time until then; the stream itself may last for ever, so no
        deadline is sent along. Connections of streams are counted apart from those of calls.

        Raises:
            HeadwaterError: as `call` does.
        """
        group = self._group(request)
        request = await self._proved(request)
        transport = self._transport or self._open()
        return await self._run(request, group, transport.open, endless=True).answer()

    async def _proved(self, request: Request) -> Request:
        """Return a request with credentials, and with the time that is left after they came."""
        if self._credentials is None:
            return request
        timeout_s = remaining_s(default=request.timeout_s, action=request.action)
        ends = time.monotonic() + timeout_s
        found = self._credentials(request)
        if isinstance(found, Awaitable):
            try:
                async with asyncio.timeout(timeout_s):
                    found = await found
            except TimeoutError:
                raise DeadlineExceeded(
                    action=request.action, timeout_s=timeout_s, outcome="not stored"
                ) from None
        own = {name.lower() for name in request.headers}
        proofs = {name: value for name, value in found.items() if name.lower() not in own}
        headers = {**proofs, **request.headers}
        left_s = max(0.0, ends - time.monotonic())
        return msgspec.structs.replace(request, headers=headers, timeout_s=left_s)

    async def close(self) -> None:
        """Close all connections; calls under way fail. Twice is fine."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    def _open(self) -> "Transport":
        from headwater.client.transport import Transport

        self._transport = Transport(
            connections=self._connections,
            connect_timeout_s=self._connect_timeout_s,
            answer_bytes_max=self._answer_bytes_max,
            tls=self._tls,
        )
        return self._transport

    def _run(
        self,
        request: Request,
        group: Group,
        send: Send[A],
        *,
        tried: set[str] | None = None,
        endless: bool = False,
    ) -> Run[A]:
        timeout_s = remaining_s(default=request.timeout_s, action=request.action)
        headers = to_headers(current())
        headers.update(request.headers)
        if request.service:
            headers[SERVICE] = to_header(request.service)
        if endless:
            headers.pop(TIMEOUT_MS, None)
        return Run(
            request,
            group,
            send,
            headers=headers,
            deadline=time.monotonic() + timeout_s,
            timeout_s=timeout_s,
            policy=self._policy,
            arrival=functools.partial(self._arrival, group) if request.service else None,
            tried=tried,
            endless=endless,
        )

    def _group(self, request: Request) -> Group:
        service, url, role = request.service, request.url, request.role
        group = self._groups.get((service, url, role))
        if group is not None:
            return group
        limit = self._policy.limit
        if not service:
            plain = (_plain(url),)
            base = url.rstrip("/")
            group = Group(lambda: plain, lambda one: Target(one, base), limit=limit)
        elif self._discovery is None:
            raise ConfigurationError(
                subject=f"service {service!r}",
                reason="cannot be resolved without discovery: pass one, or name a base URL",
            )
        else:
            lookup = functools.partial(self._discovery.instances, service, role=role)
            group = Group(lookup, self._target, zone=self._zone, limit=limit)
        self._groups[service, url, role] = group
        return group

    def _target(self, instance: Instance) -> Target:
        known = self._targets.get(instance.id)
        if known is None or not known.same(instance):
            known = self._targets[instance.id] = Target(instance, instance.url)
        return known

    async def _arrival(self, group: Group, until: float) -> None:
        """Wait until discovery knows an instance of a group, or the time has come."""
        if self._discovery is None or self._arrivals >= self._policy.limit:
            raise Overloaded(limit=self._policy.limit)
        self._arrivals += 1
        changes = self._discovery.changes()
        try:
            async with asyncio.timeout(until - time.monotonic()):
                async for _ in changes:
                    group.refresh()
                    if group.targets:
                        return
        except TimeoutError:
            return
        finally:
            self._arrivals -= 1
            if isinstance(changes, AsyncGenerator):
                await changes.aclose()


def _plain(url: str) -> Instance:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ConfigurationError(
            subject=f"base URL {url!r}",
            reason="is not http(s)://host[:port][/path]: correct it, or name a service",
        )
    return Instance(service=url, id=url, host=parts.hostname, port=parts.port or 0)
