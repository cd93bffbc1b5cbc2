"""The registry: instances, their leases, and a log of changes by revision. No I/O.

Decision: the registry keeps its state in memory only. It is soft state: every instance repeats its
registration by itself, at the latest after a third of its lease, so a registry that restarts is
complete again within that time, and clients keep what they knew meanwhile. A database under it
would add a dependency to the one service that must start first, and could only restore what may be
wrong by then. Rejected: SQLite (survives a restart, but with stale entries that need the same
grace) and replication between registries (clients register with every registry instead).

A durable backend can still be added outside: `Registry.listen` hands it every `Change`, and
`Registry.restore` takes back what was stored, with one full lease of grace.
"""

import math
import re
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from headwater.discovery.api import Instance, Status
from headwater.discovery.table import InstanceTable
from headwater.errors import InstanceNotFound, MalformedMessage

LEASE_S_MIN, LEASE_S_MAX = 0.05, 3600.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+~-]{0,199}")
_METHOD = re.compile(r"[A-Z]+|\*")
_LOG_LENGTH = 4096


class Change(msgspec.Struct, frozen=True):
    """One change: the instance as it is now, or was before its removal."""

    revision: int
    kind: Literal["put", "remove"]
    instance: Instance


class Lease(msgspec.Struct):
    """When an instance expires, and what it said of itself.

    ``own`` is the status that the instance registered; ``override`` one that an operator set over
    it; ``expired`` that it was not renewed in time. The registered status is restored by a renewal.
    """

    deadline: float
    own: Status
    override: Status | None = None
    expired: bool = False

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
    machine suspended) and after `restore` every instance has one full lease again.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
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
        self.epoch = uuid.uuid4().hex[:12]
        self.revision = int(wall())
        self._oldest = self.revision  # changes after this revision are in the log

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call this at once with each change from now on; it must not raise."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[Change], None]) -> None:
        """Call it no more."""
        self._listeners.remove(listener)

    def register(self, instance: Instance) -> Instance:
        """Add an instance, or replace the one of the same id; return it as it is listed now.

        An identical registration of a live instance is a renewal only. An operator's override
        of the same id stays.

        Raises:
            MalformedMessage: a field has no sensible value.
        """
        check(instance)
        known, lease = self._table.get(instance.id), self._leases.get(instance.id)
        started = instance.started or (known.started if known else 0) or self._now_us()
        deadline = self._clock() + instance.lease_s
        override = lease.override if lease else None
        self._leases[instance.id] = lease = Lease(deadline, instance.status, override)
        listed = msgspec.structs.replace(instance, started=started, status=lease.status)
        if known and msgspec.structs.replace(listed, revision=known.revision) == known:
            return known
        return self._put(listed)

    def renew(self, id: str) -> Instance:
        """Extend the lease; an expired instance is back with its own status.

        Raises:
            InstanceNotFound: the registry does not know it (any more): register again.
        """
        instance, lease = self._find(id)
        lease.deadline = self._clock() + instance.lease_s
        lease.expired = False
        return self._show(instance, lease)

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
        return self._show(instance, lease)

    def deregister(self, id: str) -> Instance:
        """Remove an instance and return its last state.

        Raises:
            InstanceNotFound: the registry does not know it.
        """
        instance, _ = self._find(id)
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
            if lease.deadline <= now:
                if lease.expired:
                    self._drop(instance)
                    continue
                lease.expired, lease.deadline = True, now + self._removal_s
                self._show(instance, lease)
            due = min(due, lease.deadline)
        return due - now

    def restore(self, instances: Iterable[Instance]) -> None:
        """Take instances of an earlier life; each has one full lease to renew."""
        for instance in instances:
            if instance.id not in self._table:
                self.register(instance)

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

    def _show(self, instance: Instance, lease: Lease) -> Instance:
        if instance.status == lease.status:
            return instance
        return self._put(msgspec.structs.replace(instance, status=lease.status))

    def _put(self, instance: Instance) -> Instance:
        listed = msgspec.structs.replace(instance, revision=self.revision + 1)
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


def check(instance: Instance) -> None:
    """Refuse what cannot be a running instance.

    Raises:
        MalformedMessage: names every wrong field with what it must be.
    """
    lease_ok = math.isfinite(instance.lease_s) and LEASE_S_MIN <= instance.lease_s <= LEASE_S_MAX
    rules = [
        (_NAME.fullmatch(instance.service), "service", "letters, digits and . _ : @ + ~ - only"),
        (_NAME.fullmatch(instance.id), "id", "letters, digits and . _ : @ + ~ - only"),
        (instance.host.strip() and " " not in instance.host, "host", "a host name or address"),
        (1 <= instance.port <= 65535, "port", "a number from 1 to 65535"),
        (1 <= instance.weight <= 1_000_000, "weight", "a number from 1 to 1000000"),
        (lease_ok, "lease_s", f"seconds from {LEASE_S_MIN} to {LEASE_S_MAX:.0f}"),
        (instance.started >= 0, "started", "microseconds since 1970, or 0"),
    ]
    wrong = [
        f"{name} is {getattr(instance, name)!r}, expected {expected}"
        for fine, name, expected in rules
        if not fine
    ]
    wrong += [
        f"route {route.method} {route.path!r}: expected an upper-case method and a path with /"
        for route in instance.routes
        if not _METHOD.fullmatch(route.method) or not route.path.startswith("/")
    ]
    if wrong:
        raise MalformedMessage(name=f"instance {instance.id!r}", reason="; ".join(wrong))


__all__ = ["Change", "Lease", "Registry", "check"]
