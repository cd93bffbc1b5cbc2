"""A set of instances with the answers that discovery gives about it, computed once per change."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from headwater.discovery.api import Instance


class InstanceTable:
    """Instances by id; answers are cached until the next change and ordered by id."""

    def __init__(self, instances: Iterable[Instance] = ()) -> None:
        """Hold these instances."""
        self._by_id: dict[str, Instance] = {}
        self._at: dict[tuple[str, int], set[str]] = {}
        self._members: dict[str, dict[str, Instance]] = {}
        self._groups: dict[str, tuple[Instance, ...]] = {}  # of services that did not change
        self._live: dict[tuple[str, str], tuple[Instance, ...]] = {}
        self._services: Mapping[str, tuple[Instance, ...]] | None = None
        self.replace(instances)

    def __len__(self) -> int:
        """Return how many instances there are, of any status."""
        return len(self._by_id)

    def __contains__(self, id: str) -> bool:
        """Whether an instance has this id."""
        return id in self._by_id

    def get(self, id: str) -> Instance | None:
        """Return the instance of this id."""
        return self._by_id.get(id)

    def put(self, instance: Instance) -> None:
        """Add or replace one."""
        self.remove(instance.id)
        self._by_id[instance.id] = instance
        self._add(instance)
        self._forget(instance.service)

    def at(self, address: tuple[str, int]) -> list[Instance]:
        """Return the instances of an address."""
        return [self._by_id[id] for id in sorted(self._at.get(address, ()))]

    def remove(self, id: str) -> Instance | None:
        """Remove and return one; None when absent."""
        removed = self._by_id.pop(id, None)
        if removed is not None:
            ids = self._at[removed.address]
            ids.discard(id)
            if not ids:
                del self._at[removed.address]
            members = self._members[removed.service]
            del members[id]
            if not members:
                del self._members[removed.service]
            self._forget(removed.service)
        return removed

    def replace(self, instances: Iterable[Instance]) -> None:
        """Hold exactly these."""
        self._by_id = {instance.id: instance for instance in instances}
        self._at, self._members, self._groups = {}, {}, {}
        for instance in self._by_id.values():
            self._add(instance)
        self._forget("")

    def all(self) -> list[Instance]:
        """Return all instances, by id."""
        return sorted(self._by_id.values(), key=lambda instance: instance.id)

    def services(self) -> Mapping[str, tuple[Instance, ...]]:
        """Return all instances by service; the mapping never changes after it was returned.

        The instances of a service that has not changed are the same tuple as before.
        """
        if self._services is None:
            for name in self._members.keys() - self._groups.keys():
                members = self._members[name]
                self._groups[name] = tuple([members[id] for id in sorted(members)])
            self._services = MappingProxyType(
                {name: self._groups[name] for name in sorted(self._groups)}
            )
        return self._services

    def live(self, service: str, role: str = "") -> tuple[Instance, ...]:
        """Return the UP instances of a service; with a role also those of role ``all``."""
        found = self._live.get((service, role))
        if found is None:
            found = self._live[service, role] = tuple(
                instance
                for instance in self.services().get(service, ())
                if instance.status == "UP" and (not role or instance.role in {role, "all"})
            )
        return found

    def _add(self, instance: Instance) -> None:
        self._at.setdefault(instance.address, set()).add(instance.id)
        self._members.setdefault(instance.service, {})[instance.id] = instance

    def _forget(self, service: str) -> None:
        self._groups.pop(service, None)
        self._services = None
        self._live = {}


__all__ = ["InstanceTable"]
