"""Memory of services that vanished, so that they answer "unavailable" and not "not found"."""

from collections.abc import Mapping

import msgspec

from headwater.discovery import Instance


class Memory:
    """Adds the last instances of a vanished service, or of a vanished role of it, as ``DOWN``."""

    def __init__(self, *, remember_s: float) -> None:
        """Remember for this long."""
        self._remember_s = remember_s
        self._seen: dict[tuple[str, str], tuple[Instance, ...]] = {}
        self._missing_since: dict[tuple[str, str], float] = {}

    def merge(
        self, services: Mapping[str, tuple[Instance, ...]], *, now: float
    ) -> dict[str, tuple[Instance, ...]]:
        """Return the services with what is remembered; ``now`` is in monotonic seconds."""
        present: dict[tuple[str, str], tuple[Instance, ...]] = {}
        for service, instances in services.items():
            for instance in instances:
                role: str = instance.role
                present[service, role] = (*present.get((service, role), ()), instance)
        self._seen |= present
        for known in present:
            self._missing_since.pop(known, None)
        merged = {service: instances for service, instances in services.items() if instances}
        for key, instances in sorted(self._seen.items()):
            if key in present:
                continue
            if now - self._missing_since.setdefault(key, now) >= self._remember_s:
                del self._seen[key], self._missing_since[key]
                continue
            down = tuple(msgspec.structs.replace(i, status="DOWN") for i in instances)
            merged[key[0]] = (*merged.get(key[0], ()), *down)
        return merged
