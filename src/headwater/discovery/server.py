"""The discovery service: the registry behind HTTP, with its own clock, alone or with others."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Self

import structlog

from headwater._http.server import AsgiServer
from headwater._http.signal import wait_for
from headwater.discovery.api import RegistryStore
from headwater.discovery.feed import Feed
from headwater.discovery.registry import Registry
from headwater.discovery.routes import make_app
from headwater.discovery.sharing import Sharing

_log = structlog.get_logger("headwater.discovery")

SETTLE_S = 5.0
"""A service renews each third of its lease, 5 s by default; a registry that is away it asks more
often."""


class DiscoveryServer:
    """Serves one registry on one port of the running event loop.

    Native protocol, version 1 (all bodies JSON; errors are problem documents)::

        POST   /v1/instances                register; 201 and the instance as listed
        GET    /v1/instances/{id}
        PUT    /v1/instances/{id}           replace a registered instance
        DELETE /v1/instances/{id}
        PUT    /v1/instances/{id}/lease     renew; 404 means: register again
        PUT    /v1/instances/{id}/status    an operator's status over the instance's own
        DELETE /v1/instances/{id}/status    take it away
        GET    /v1/services[?index=N&wait=30s]   all; with index: once the revision is not N
        GET    /v1/services/{name}
        GET    /v1/snapshot
        GET    /v1/watch                    SSE: snapshot, then changes; Last-Event-ID resumes
        GET    /v1/prometheus               Prometheus HTTP service discovery
        GET    /health/live  /health/ready  /   (status page)
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        registry: Registry | None = None,
        store: RegistryStore | None = None,
        heartbeat_s: float = 5.0,
        settle_s: float = SETTLE_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Describe the server; nothing is bound yet.

        Args:
            host: address to listen on.
            port: port to listen on; 0 lets the system choose.
            registry: what it serves; a new, empty one when not given.
            store: what it shares with other servers; closed when the server stops.
            heartbeat_s: a watch stream is never silent for longer than this.
            settle_s: so long after a start without memory, what is not listed may be there all the
                same, and is said to be unknown; as long as the longest usual lease.
            tls: with which connections are encrypted; None: they are not.
        """
        self.registry = registry or Registry()
        self._settle_s = settle_s
        self._feed = Feed(self.registry, heartbeat_s=heartbeat_s)
        self.sharing = Sharing(self.registry, store) if store is not None else None
        self._server = AsgiServer(
            make_app(self.registry, self._feed, self.sharing),
            host,
            port,
            name="the discovery service",
            tls=tls,
        )
        self._timer: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on; the chosen one after `start`."""
        return self._server.port

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        return self._server.url

    async def start(self) -> None:
        """Serve; requests are answered when this returns.

        With a store, what it knows is listed by then, unless it is away. Without what a store knows
        it is settling at first: who is not listed may only not have renewed yet.

        Raises:
            AddressInUse: another process listens on the port.
            ConfigurationError: the address cannot be used.
        """
        self.registry.expect(self._settle_s)
        try:
            if self.sharing is not None:
                await self.sharing.start()
            await self._server.start()
        except BaseException:
            if self.sharing is not None:
                await self.sharing.stop()
            raise
        self._timer = asyncio.create_task(self._expire(), name="expire leases")
        _log.info("discovery is up", url=self.url)

    async def stop(self, grace_s: float = 5.0) -> None:
        """End watch streams, let requests finish, stop. Twice is fine."""
        await self._server.stop(grace_s)
        if self._timer is not None:
            self._timer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._timer
            self._timer = None
            self._feed.close()
        if self.sharing is not None:
            await self.sharing.stop()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def _expire(self) -> None:
        # Woken at the next deadline, or by a change, which may bring an earlier one.
        while True:
            following = self._feed.signal.next
            await wait_for(following, self.registry.expire())


async def serve(
    host: str = "127.0.0.1",
    port: int = 8761,
    *,
    store: RegistryStore | None = None,
    settle_s: float = SETTLE_S,
    started: Callable[[str], None] | None = None,
) -> None:
    """Run the discovery service until the task is cancelled; then drain.

    Args:
        host: address to listen on.
        port: port to listen on.
        store: what it shares with other servers; closed at the end.
        settle_s: see `DiscoveryServer`.
        started: called with the base URL once it answers.

    Raises:
        AddressInUse: another process listens on the port.
        ConfigurationError: the address cannot be used.
    """
    async with DiscoveryServer(host, port, store=store, settle_s=settle_s) as server:
        if started is not None:
            started(server.url)
        await asyncio.Event().wait()


__all__ = ["DiscoveryServer", "serve"]
