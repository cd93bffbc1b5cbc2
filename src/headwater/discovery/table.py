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
        self._at.setdefault(instance.address, set()).add(instance.id)
        self._forget()

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
            self._forget()
        return removed

    def replace(self, instances: Iterable[Instance]) -> None:
        """Hold exactly these."""
        self._by_id = {instance.id: instance for instance in instances}
        self._at = {}
        for instance in self._by_id.values():
            self._at.setdefault(instance.address, set()).add(instance.id)
        self._forget()

    def all(self) -> list[Instance]:
        """Return all instances, by id."""
        return sorted(self._by_id.values(), key=lambda instance: instance.id)

    def services(self) -> Mapping[str, tuple[Instance, ...]]:
        """Return all instances by service; the mapping never changes after it was returned."""
        if self._services is None:
            groups: dict[str, list[Instance]] = {}
            for instance in self.all():
                groups.setdefault(instance.service, []).append(instance)
            self._services = MappingProxyType(
                {name: tuple(groups[name]) for name in sorted(groups)}
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

    def _forget(self) -> None:
        self._services = None
        self._live = {}


__all__ = ["InstanceTable"]
