"""What the gateway remembers of services, also through its own restart.

Who vanishes answers "unavailable" for a while, and not "not found". While the registry has not
heard from everyone, who is not listed (yet) is taken for what it was when it was last seen.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog

from headwater.discovery import Instance

_log = structlog.get_logger("headwater.gateway")
_Key = tuple[str, str]


STATE = "state.json"


class State(msgspec.Struct):
    """What is on disk: the last instances of each service and role, and who owns which route."""

    instances: list[Instance] = []
    owners: dict[str, str] = {}


_decode = msgspec.json.Decoder(State).decode


def load(path: Path) -> State:
    """Return what was saved; nothing when there is nothing that can be read."""
    try:
        return _decode(path.read_bytes())
    except FileNotFoundError:
        pass
    except (OSError, msgspec.MsgspecError) as error:
        _log.warning("what was remembered cannot be read", path=str(path), reason=str(error))
    return State()


def remembers(data: Path) -> bool:
    """Whether the gateway of a data directory knows anything to serve."""
    return bool(load(data / STATE).instances)


class LastSeen:
    """Adds the last instances of a vanished service, or of a vanished role of it, as ``DOWN``."""

    def __init__(self, *, remember_s: float, instances: list[Instance] | None = None) -> None:
        """Remember for this long; ``instances`` is what was remembered before a restart."""
        self._remember_s = remember_s
        self._seen: dict[_Key, tuple[Instance, ...]] = {}
        for instance in instances or ():
            key = instance.service, instance.role
            self._seen[key] = (*self._seen.get(key, ()), instance)
        self._missing_since: dict[_Key, float] = {}
        self._merged: dict[str, tuple[Instance, ...]] = {}
        self._listed: dict[str, tuple[Instance, ...]] = {}
        self._roles: dict[str, set[_Key]] = {}

    def _note(self, service: str, instances: tuple[Instance, ...]) -> None:
        by_role: dict[_Key, list[Instance]] = {}
        for instance in instances:
            by_role.setdefault((service, instance.role), []).append(instance)
        for key, found in by_role.items():
            self._seen[key] = tuple(found)
            self._missing_since.pop(key, None)
        self._roles[service] = set(by_role)

    def instances(self) -> list[Instance]:
        """Return what is to be remembered."""
        return [instance for key in sorted(self._seen) for instance in self._seen[key]]

    def merge(
        self, services: Mapping[str, tuple[Instance, ...]], *, now: float, settling: bool = False
    ) -> dict[str, tuple[Instance, ...]]:
        """Return the services with what is remembered.

        Args:
            services: what the registry lists.
            now: monotonic seconds.
            settling: whether there may be instances that it does not list yet.
        """
        merged = {service: instances for service, instances in services.items() if instances}
        for service, instances in merged.items():
            if self._listed.get(service) is not instances:
                self._note(service, instances)
        missing = [
            key
            for key in sorted(self._seen)
            if key not in self._roles.get(key[0], ()) or key[0] not in merged
        ]
        self._listed = merged.copy()
        taken = {i.address for found in merged.values() for i in found} if missing else set()
        for key in missing:
            if now - self._missing_since.setdefault(key, now) >= self._remember_s:
                del self._seen[key], self._missing_since[key]
                if key[0] not in merged:
                    self._roles.pop(key[0], None)
                continue
            left = tuple(
                i
                if settling and i.address not in taken
                else msgspec.structs.replace(i, status="DOWN")
                for i in self._seen[key]
            )
            merged[key[0]] = (*merged.get(key[0], ()), *left)
        # Equal content is the same object, so that whoever looks for changes finds none.
        known, self._merged = self._merged, merged
        for service, instances in merged.items():
            before = known.get(service)
            if before is not None and before is not instances and before == instances:
                merged[service] = before
        return merged
