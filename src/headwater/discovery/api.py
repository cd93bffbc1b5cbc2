"""The discovery port: what an instance registers, and how others locate it."""

from collections.abc import AsyncIterator, Mapping
from typing import Literal, Protocol

import msgspec

Status = Literal["STARTING", "UP", "DRAINING", "OUT_OF_SERVICE", "DOWN"]


class RouteInfo(msgspec.Struct, frozen=True):
    """One HTTP route that an instance serves.

    ``kind`` is ``command``, ``query``, ``stream`` (SSE, WebSocket: no timeouts) or ``http`` (any
    other). ``message`` is the wire name of the command or query, else empty. ``key`` is the path
    parameter that names the target, so that requests of one target can go to one instance.
    """

    method: str
    path: str
    kind: Literal["command", "query", "stream", "http"] = "http"
    message: str = ""
    key: str = ""


class Instance(msgspec.Struct, frozen=True):
    """One running process of a service.

    Attributes:
        service: the service's name.
        id: unique over all instances of the system.
        host, port, scheme: where it listens.
        status: only ``UP`` instances receive traffic.
        role: which side of the service it runs.
        zone: where it runs, for preferring near instances.
        version: the version of the service's program.
        weight: its share of traffic relative to others, from 1.
        routes: what it serves.
        metadata: anything else.
        lease_s: it expires when not renewed for this many seconds.
        started: when it registered, microseconds UTC.
        revision: the registry's revision of its last change; set by the registry.
    """

    service: str
    id: str
    host: str
    port: int
    scheme: Literal["http", "https"] = "http"
    status: Status = "UP"
    role: Literal["command", "query", "all"] = "all"
    zone: str = ""
    version: str = ""
    weight: int = 1
    routes: tuple[RouteInfo, ...] = ()
    metadata: dict[str, str] = {}
    lease_s: float = 10.0
    started: int = 0
    revision: int = 0

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class Discovery(Protocol):
    """The view a process has of the registry, and its own registration there.

    Reads answer from a local cache that is kept current by push and survives the registry's
    absence; they never block. Registration is repeated for as long as it is wanted: a registry
    that was away, or lost its memory, learns of the instance again by itself.
    """

    async def register(self, instance: Instance) -> None:
        """Register and keep renewing until `deregister`.

        Raises:
            StartupError: the registry did not answer within the client's start time-out.
        """

    async def update(self, instance: Instance) -> None:
        """Replace the registration of the same id (new status, metadata)."""

    async def deregister(self, id: str) -> None:
        """Stop renewing and remove; does not raise when the registry is away."""

    def instances(self, service: str, *, role: str = "") -> tuple[Instance, ...]:
        """Return the live (UP) instances of a service; with a role also those of role ``all``."""

    def services(self) -> Mapping[str, tuple[Instance, ...]]:
        """Return all known instances by service, of any status."""

    def changes(self) -> AsyncIterator[Mapping[str, tuple[Instance, ...]]]:
        """Yield `services` at once, and again soon after each change, for ever."""

    async def close(self) -> None:
        """Deregister what is registered and stop. Twice is fine."""
