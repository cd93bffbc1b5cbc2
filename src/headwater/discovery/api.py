"""The discovery ports: what an instance registers, how others locate it, what registries share."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

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
        started: when it registered, microseconds UTC by its own clock: for people to read.
        revision: the registry's revision of its last change; set by the registry.
        since: the registry's revision when it was first listed; set by the registry. It says which
            of two instances registered first, which no clock can.
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
    since: int = 0

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: no two instances of a registry have the same, whatever their service.

        Who registers later holds it, since only one process can; the other is gone.
        """
        return self.host, self.port

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class Standing(msgspec.Struct, frozen=True):
    """How much of the truth a view of the registry can be.

    Attributes:
        settling_s: a registry that came up without memory may not have heard of everyone for so
            many seconds more; 0 when it has had the time.
        unheard_s: for how many seconds no registry has been heard of; 0 while one is followed.
    """

    settling_s: float = 0.0
    unheard_s: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether who is not listed is not there."""
        return not self.settling_s and not self.unheard_s


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

    def standing(self) -> Standing:
        """Return how far the view can be relied on: absence counts only while it is complete."""

    def changes(self) -> AsyncIterator[Mapping[str, tuple[Instance, ...]]]:
        """Yield `services` at once, and again soon after each change, for ever."""

    async def close(self) -> None:
        """Deregister what is registered and stop. Twice is fine."""


class Record(msgspec.Struct, frozen=True):
    """What the registries on one store know together about an instance.

    Attributes:
        id: the instance's.
        instance: as it registered, with its own status; None: it was removed.
        holder: the registry that decides whether it has expired.
        override: an operator's status over its own.
        expired: it was not renewed in time, and is listed as DOWN.
        doubted: its holder hears nothing of it: whoever does takes over.
        revision: of its last change in the store; set by the store.
    """

    id: str
    instance: Instance | None
    holder: str
    override: Status | None = None
    expired: bool = False
    doubted: bool = False
    revision: int = 0


class Entry(msgspec.Struct, frozen=True):
    """One change on its way into a store.

    With ``expected`` it is a decision about what the writer has seen: it is stored only while the
    record is at that revision (0: there is none). Without, it is what somebody asked for: it is
    stored whatever is there, except when that says the same already. The stored override stays
    unless ``overrides``, and everything else stays unless ``registers``; the override of an
    instance goes when it is removed, and none is set on one that was removed.

    Who asks to register at an address, and is not registered there already, removes all others of
    that address.
    """

    record: Record
    expected: int | None = None
    registers: bool = True
    overrides: bool = False

    @property
    def asks_for(self) -> Instance | None:
        """The instance that somebody asks to register; None for anything else."""
        return self.record.instance if self.registers and self.expected is None else None


class Mark(NamedTuple):
    """How far a reader has seen which store."""

    store: str
    revision: int


class Records(msgspec.Struct, frozen=True):
    """What a store answers: the records as they are at a mark, by revision.

    ``complete`` means all instances, without the removed ones; otherwise those that have changed.
    """

    mark: Mark
    records: Sequence[Record]
    complete: bool


class RegistryStore(Protocol):
    """What several registries share, and one finds again after its restart.

    Revisions are dense and become visible in their order: who has read up to one has seen
    everything up to it. Every wait is bounded, and all methods may be called at the same time.

    All methods but `changed` and `close` raise `StoreUnavailable`, `StoreError` or `DiskFull`
    while the store cannot be used; each call tries anew.
    """

    @property
    def name(self) -> str:
        """What it is called in messages."""

    async def read(self, after: Mark | None) -> Records:
        """Return what has changed after a mark.

        Everything, when there is no mark, when it is of another store or of this one's future, or
        when removals since then are forgotten.
        """

    async def write(self, entries: Sequence[Entry]) -> Mapping[str, int]:
        """Store changes, at most one of an id; return the new revisions of those stored.

        Atomic, and durable when it returns. Entries do not hinder one another. After an error, or
        when cancelled, all or nothing was stored; writing the same again does no harm.
        """

    async def beat(self, server: str) -> Mapping[str, int]:
        """Give a sign of life; return how many signs each server has given.

        A server that has been silent for a day is forgotten.
        """

    async def leave(self, server: str) -> None:
        """Forget a server at once; an unknown one is fine."""

    async def changed(self) -> None:
        """Return when others may have changed something since the last call.

        Never raises. It may return for no reason, and does within a second or two.
        """

    async def close(self) -> None:
        """Release everything; methods raise from then on. Twice is fine."""
