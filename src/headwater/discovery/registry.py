"""The registry: instances, their leases, and a log of changes by revision. No I/O.

It is soft state: every instance repeats its registration by itself, at the latest after a third of
its lease, so a registry that restarts empty is complete again within that time, and clients keep
what they knew meanwhile.

Several registries can know the same through a store (`headwater.discovery.sharing`). Then each
instance has one holder, the registry that decides whether it has expired: the one that it
registered with. Renewals stay where they arrive. A holder that hears nothing of an instance for
two thirds of its lease doubts it, and another one that does hear of it takes over.
"""

import math
import time
import uuid
from collections import deque
from collections.abc import Callable, Container, Mapping
from typing import Literal

import msgspec

from headwater.discovery.api import Instance, Record, Status
from headwater.discovery.checks import check, normal_host
from headwater.discovery.table import InstanceTable
from headwater.errors import AddressTaken, InstanceNotFound

_LOG_LENGTH = 4096
_DOUBT = 2 / 3  # of a lease: what is healthy was renewed twice by then

Why = Literal["request", "override", "decision", "expiry"]
"""What a change to be shared comes from: somebody's request, or the registry itself."""

Tell = Callable[[str, Why, int], None]
"""Takes the id of an instance, why it changed, and its revision in the store before."""


class Change(msgspec.Struct, frozen=True):
    """One change: the instance as it is now, or was before its removal."""

    revision: int
    kind: Literal["put", "remove"]
    instance: Instance


class Lease(msgspec.Struct):
    """When an instance expires, and what it said of itself.

    Attributes:
        deadline: when it expires; means nothing while another registry is its holder.
        own: the status that the instance registered; a renewal restores it.
        override: one that an operator set over it.
        expired: it was not renewed in time.
        holder: the other registry that decides whether it has expired; empty: this one.
        heard: when it was last renewed here.
        doubted: its holder hears nothing of it.
        known: its revision in the store; 0 when it is not there.
    """

    deadline: float
    own: Status
    override: Status | None = None
    expired: bool = False
    holder: str = ""
    heard: float = -math.inf
    doubted: bool = False
    known: int = 0

    @property
    def status(self) -> Status:
        """What others see."""
        if self.expired:
            return "DOWN"
        return self.override or self.own


class Registry:
    """Instances by service, with leases and revisions. Not thread-safe: one event loop owns it.

    Revisions are dense from a start that is the wall clock's second, so that they do not repeat
    after a restart; ``epoch`` tells one life of a registry from the next. A renewal is no change.

    Self-preservation: an instance expires only while the registry itself was watching. After a
    pause of the registry (`expire` was not called for ``pause_s``: the process was stopped, the
    machine suspended) every instance has one full lease again, and so has one that is taken over
    from another registry.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,  # noqa: TID251  # the registry's own clock
        removal_s: float = 30.0,
        pause_s: float = 3.0,
    ) -> None:
        """Start empty.

        Args:
            clock: seconds, monotonic.
            wall: seconds since 1970, UTC.
            removal_s: an expired instance is listed as DOWN for so long, then removed.
            pause_s: `expire` is called more often than this while the registry is watching.
        """
        self._clock = clock
        self._wall = wall
        self._listeners: list[Callable[[Change], None]] = []
        self._removal_s = removal_s
        self._pause_s = pause_s
        self._table = InstanceTable()
        self._leases: dict[str, Lease] = {}
        self._log: deque[Change] = deque(maxlen=_LOG_LENGTH)
        self._watched = clock()
        self._settled = -math.inf
        self._evicted: dict[str, str] = {}  # who lost its address: to whom
        self.epoch = uuid.uuid4().hex[:12]
        self.revision = int(wall())
        self._oldest = self.revision  # changes after this revision are in the log
        self._tell: Tell | None = None
        self.apart = False  # whether the other registries are out of reach at the moment

    def expect(self, settle_s: float) -> None:
        """Begin without memory: for so long there may be instances that are not listed."""
        self._settled = self._clock() + settle_s

    @property
    def settling_s(self) -> float:
        """How many seconds are left until all instances have had the time to register."""
        return max(0.0, self._settled - self._clock())

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call this at once with each change from now on; it must not raise."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[Change], None]) -> None:
        """Call it no more."""
        self._listeners.remove(listener)

    def register(self, instance: Instance) -> Instance:
        """Add an instance, or replace the one of the same id; return it as it is listed now.

        An identical registration of a live instance is a renewal only. An operator's override
        of the same id stays. Another instance of the same address is removed, whatever its service:
        it is gone, since only one process can listen there.

        Raises:
            MalformedMessage: a field has no sensible value.
            AddressTaken: it was removed itself, since who registered later has its address.
        """
        check(instance)
        instance = msgspec.structs.replace(instance, host=normal_host(instance.host))
        self._check_address(instance)
        known, lease = self._table.get(instance.id), self._leases.get(instance.id)
        started = instance.started or (known.started if known else 0) or self._now_us()
        since = known.since if known else 0
        listed = msgspec.structs.replace(instance, started=started, since=since)
        if known is None or lease is None:
            self._leases[instance.id] = lease = Lease(0.0, instance.status)
        elif self._is_renewal(listed, known, lease):
            return self.renew(instance.id)
        lease.own, lease.expired, lease.holder = instance.status, False, ""
        self._heard(listed, lease)
        self._evict(listed)
        self._told(instance.id, "request")
        return self._list(listed, lease)

    def renew(self, id: str) -> Instance:
        """Extend the lease; an expired instance is back with its own status.

        Raises:
            InstanceNotFound: the registry does not know it (any more): register again.
        """
        instance, lease = self._find(id)
        self._heard(instance, lease)
        if lease.expired:
            lease.expired, lease.holder = False, ""
            self._told(id, "request")
        elif lease.holder and self.apart:
            self._hold(id, lease)  # its holder may be gone, and nobody else hears of it
        return self._list(instance, lease)

    def update(self, instance: Instance) -> Instance:
        """Replace a registered instance; this renews it too.

        Raises:
            InstanceNotFound: the registry does not know it (any more): register again.
            MalformedMessage: a field has no sensible value.
        """
        self._find(instance.id)
        return self.register(instance)

    def override(self, id: str, status: Status | None) -> Instance:
        """Set a status over the instance's own until it is removed; None takes it away.

        Raises:
            InstanceNotFound: the registry does not know it.
        """
        instance, lease = self._find(id)
        lease.override = status
        self._told(id, "override")
        return self._list(instance, lease)

    def deregister(self, id: str) -> Instance:
        """Remove an instance and return its last state.

        Raises:
            InstanceNotFound: the registry does not know it.
        """
        instance, _ = self._find(id)
        self._told(id, "request")
        self._drop(instance)
        return instance

    def expire(self) -> float:
        """Mark what was not renewed as DOWN, remove what has been DOWN long enough.

        Returns:
            seconds until the next call is due, at most half of ``pause_s``.
        """
        now = self._clock()
        paused, self._watched = now - self._watched > self._pause_s, now
        due = now + self._pause_s / 2
        for id, lease in list(self._leases.items()):
            instance = self._table.get(id)
            assert instance is not None
            if paused and not lease.expired:
                lease.deadline = max(lease.deadline, now + instance.lease_s)
            if lease.holder:
                continue
            if lease.deadline <= now:
                self._told(id, "expiry")
                if lease.expired:
                    self._drop(instance)
                    continue
                lease.expired, lease.deadline = True, now + self._removal_s
                self._list(instance, lease)
            due = min(due, lease.deadline)
            if self._tell is not None and not lease.expired and not lease.doubted:
                doubtful = lease.deadline - (1 - _DOUBT) * instance.lease_s
                if doubtful <= now:
                    lease.doubted = True
                    self._told(id, "decision")
                else:
                    due = min(due, doubtful)
        return due - now

    def share(self, tell: Tell) -> None:
        """Call this at once with each change that other registries must know; it must not raise."""
        self._tell = tell

    def record(self, id: str, *, server: str) -> Record:
        """Return what others must know about an instance, present or removed.

        Args:
            id: the instance's.
            server: the name of this registry among them.
        """
        instance, lease = self._table.get(id), self._leases.get(id)
        if instance is None or lease is None:
            return Record(id, None, server)
        own = msgspec.structs.replace(instance, status=lease.own, revision=0, since=0)
        holder = lease.holder or server
        return Record(id, own, holder, lease.override, lease.expired, lease.doubted, lease.known)

    def take(self, record: Record, *, server: str) -> None:
        """List what another registry, or this one, has stored; what is older than known is not.

        An instance that is doubted or expired there, but was renewed here, is held from now on.
        """
        lease = self._leases.get(record.id)
        if lease is not None and record.revision <= lease.known:
            return
        instance, now = record.instance, self._clock()
        if instance is None:
            self.forget(record.id)
            return
        if lease is None:
            lease = self._leases[record.id] = Lease(now + instance.lease_s, instance.status)
        if record.expired and not lease.expired:
            lease.deadline = now + self._removal_s
        elif lease.expired and not record.expired:
            lease.deadline = now + instance.lease_s
        lease.own, lease.override, lease.known = instance.status, record.override, record.revision
        lease.expired, lease.doubted = record.expired, record.doubted
        lease.holder = "" if record.holder == server else record.holder
        fresh = now - lease.heard < _DOUBT * instance.lease_s
        if lease.holder and fresh and (record.doubted or record.expired):
            lease.expired, lease.deadline = False, lease.heard + instance.lease_s
            self._hold(record.id, lease)
        self._list(instance, lease)

    def settle(self, id: str, revision: int) -> None:
        """Take note of the revision under which this registry has stored an instance."""
        lease = self._leases.get(id)
        if lease is not None:
            lease.known = max(lease.known, revision)

    def forget(self, id: str) -> None:
        """Remove an instance that others have removed; an unknown one is fine."""
        instance = self._table.get(id)
        if instance is not None:
            self._drop(instance)
            for other in self._table.at(instance.address):
                self._evicted[id] = other.id

    def _check_address(self, instance: Instance) -> None:
        """Let nobody take an address back from who registered it later and still lives."""
        holder = self._table.get(self._evicted.get(instance.id, ""))
        if holder is None or holder.status == "DOWN" or holder.address != instance.address:
            self._evicted.pop(instance.id, None)
            return
        raise AddressTaken(
            id=instance.id,
            address=f"{instance.host}:{instance.port}",
            holder=f"{holder.service} ({holder.id})",
        )

    def _evict(self, instance: Instance) -> None:
        """Remove who had the address of a newly registered instance before."""
        self._evicted = {id: to for id, to in self._evicted.items() if to in self._table}
        for other in self._table.at(instance.address):
            if other.id != instance.id:
                self._told(other.id, "request")
                self._drop(other)
                self._evicted[other.id] = instance.id

    def holders(self) -> set[str]:
        """Return the other registries that decide about instances."""
        return {lease.holder for lease in self._leases.values() if lease.holder}

    def take_over(self, holders: Container[str]) -> int:
        """Hold the instances of registries that are gone; each has one full lease to renew.

        Returns:
            how many they are.
        """
        taken = [(id, lease) for id, lease in self._leases.items() if lease.holder in holders]
        for id, lease in taken:
            self._grant(id, lease)
            self._hold(id, lease)
        return len(taken)

    def store_again(self) -> None:
        """Take all instances for new: the store has lost what it knew."""
        for id, lease in self._leases.items():
            if lease.holder:
                self._grant(id, lease)
            lease.holder, lease.known = "", 0
            self._told(id, "request")
            self._told(id, "override")

    def get(self, id: str) -> Instance:
        """Return an instance.

        Raises:
            InstanceNotFound: the registry does not know it.
        """
        return self._find(id)[0]

    def lease(self, id: str) -> tuple[Lease, float]:
        """Return an instance's lease and the seconds left of it.

        Raises:
            InstanceNotFound: the registry does not know it.
        """
        lease = self._find(id)[1]
        return lease, lease.deadline - self._clock()

    def all(self) -> list[Instance]:
        """Return all instances, by id."""
        return self._table.all()

    def services(self) -> Mapping[str, tuple[Instance, ...]]:
        """Return all instances by service, of any status."""
        return self._table.services()

    def live(self, service: str, role: str = "") -> tuple[Instance, ...]:
        """Return the UP instances of a service; with a role also those of role ``all``."""
        return self._table.live(service, role)

    def changes_since(self, revision: int) -> list[Change] | None:
        """Return the changes after a revision, oldest first; None when they are not known.

        None means: start over from a snapshot. It is the answer for revisions of another epoch,
        too, unless they happen to lie in the log: compare the epoch first.
        """
        if not self._oldest <= revision <= self.revision:
            return None
        missing = self.revision - revision
        return list(self._log)[len(self._log) - missing :] if missing else []

    def _find(self, id: str) -> tuple[Instance, Lease]:
        instance = self._table.get(id)
        if instance is None:
            raise InstanceNotFound(id=id)
        return instance, self._leases[id]

    def _is_renewal(self, listed: Instance, known: Instance, lease: Lease) -> bool:
        same = msgspec.structs.replace(listed, status=known.status, revision=known.revision)
        return same == known and listed.status == lease.own and not lease.expired

    def _heard(self, instance: Instance, lease: Lease) -> None:
        lease.heard = self._clock()
        lease.deadline = lease.heard + instance.lease_s
        lease.doubted = False

    def _grant(self, id: str, lease: Lease) -> None:
        lease_s = self._find(id)[0].lease_s
        lease.deadline = self._clock() + (self._removal_s if lease.expired else lease_s)

    def _hold(self, id: str, lease: Lease) -> None:
        lease.holder, lease.doubted = "", False
        self._told(id, "decision")

    def _told(self, id: str, why: Why) -> None:
        if self._tell is not None:
            self._tell(id, why, self._leases[id].known)

    def _list(self, instance: Instance, lease: Lease) -> Instance:
        """List an instance with its lease's status; nothing changes when it is listed so."""
        known = self._table.get(instance.id)
        shown = msgspec.structs.replace(
            instance,
            status=lease.status,
            revision=known.revision if known else 0,
            since=known.since if known else 0,
        )
        return known if known is not None and shown == known else self._put(shown)

    def _put(self, instance: Instance) -> Instance:
        revision = self.revision + 1
        listed = msgspec.structs.replace(
            instance, revision=revision, since=instance.since or revision
        )
        self._table.put(listed)
        self._note("put", listed)
        return listed

    def _drop(self, instance: Instance) -> None:
        self._table.remove(instance.id)
        del self._leases[instance.id]
        self._note("remove", instance)

    def _note(self, kind: Literal["put", "remove"], instance: Instance) -> None:
        self.revision += 1
        change = Change(self.revision, kind, instance)
        if len(self._log) == _LOG_LENGTH:
            self._oldest = self._log[0].revision
        self._log.append(change)
        for listener in self._listeners:
            listener(change)

    def _now_us(self) -> int:
        return int(self._wall() * 1_000_000)


__all__ = ["Change", "Lease", "Registry", "Tell", "Why"]
