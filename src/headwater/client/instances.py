"""Which instance gets the next call: load, zone, health, and affinity of a routing key."""

import hashlib
import math
import random
import time
from collections.abc import Callable, Collection, Iterable

from headwater.discovery import Instance

EJECT_S = 0.5
EJECT_S_MAX = 10.0
REST_S_MAX = 5.0


class Target:
    """One instance as this process sees it: its load and its health, learned from its answers.

    A target is ejected after ``eject_after`` consecutive failures, at first for half a second,
    then twice as long each time up to ten. When that time is over, one call at a time probes it
    (half-open); a success makes it whole again.
    """

    __slots__ = (
        "__weakref__", "_of", "ejected_until", "ejections", "failures", "id", "pending",
        "probing", "resting_until", "url", "weight", "zone",
    )  # fmt: skip

    def __init__(self, instance: Instance, url: str) -> None:
        """Start healthy and idle."""
        self.id = instance.id
        self.url = url
        self._of = instance
        self.zone = instance.zone
        self.weight = max(1, instance.weight)
        self.pending = 0
        self.failures = 0
        self.ejections = 0
        self.ejected_until = 0.0
        self.resting_until = 0.0
        self.probing = False

    def same(self, instance: Instance) -> bool:
        """Whether an instance is the one meant here, and not its successor after a restart."""
        mine = self._of
        return (
            mine.url == instance.url
            and mine.started == instance.started
            and mine.weight == instance.weight
            and mine.zone == instance.zone
        )

    def usable(self, now: float) -> bool:
        """Whether a call may go here; claims nothing (see `begin`)."""
        if self.resting_until > now:
            return False
        return not self.ejected_until or (now >= self.ejected_until and not self.probing)

    def begin(self) -> bool:
        """Count a call in; return whether it is the probe after an ejection."""
        self.pending += 1
        if not self.ejected_until or self.probing:
            return False
        self.probing = True
        return True

    def end(self, *, probe: bool) -> None:
        """Count a call out, however it ended."""
        self.pending -= 1
        if probe:
            self.probing = False

    def succeeded(self) -> None:
        """Forget all failures."""
        if self.failures or self.ejected_until:
            self.failures = self.ejections = 0
            self.ejected_until = 0.0

    def failed(self, now: float, *, eject_after: int) -> None:
        """Note a failure; eject when it is one too many, or when the probe failed."""
        self.failures += 1
        if self.failures >= eject_after or self.ejected_until:
            if now < self.ejected_until:
                return  # a call from before the ejection: it says nothing new
            self.ejected_until = now + min(EJECT_S * 2**self.ejections, EJECT_S_MAX)
            self.ejections = min(self.ejections + 1, 10)

    def rest(self, until: float) -> None:
        """Prefer others until then, as the instance asked with Retry-After."""
        self.resting_until = until


class Group:
    """The instances that may answer one kind of call."""

    def __init__(
        self,
        instances: Callable[[], tuple[Instance, ...]],
        target_of: Callable[[Instance], Target],
        *,
        zone: str = "",
        limit: int = 100,
        random: Callable[[], float] = random.random,
    ) -> None:
        """Take what ``instances`` tells; call `refresh` before each use.

        Args:
            instances: what discovery knows at the moment.
            target_of: the target of an instance, kept as long as any group has it.
            zone: preferred.
            limit: calls on one instance at a time.
            random: 0 to 1, spreads load.
        """
        self._instances = instances
        self._target_of = target_of
        self.targets: tuple[Target, ...] = ()
        self._near: tuple[Target, ...] = ()
        self._zone = zone
        self._limit = limit
        self._random = random
        self._weighted = False
        self._seen: tuple[Instance, ...] | None = None

    def refresh(self) -> None:
        """Take over what discovery knows; free when nothing changed."""
        instances = self._instances()
        if instances is self._seen:
            return
        if instances != self._seen:
            self.targets = tuple(map(self._target_of, instances))
            near = tuple(t for t in self.targets if self._zone and t.zone == self._zone)
            self._near = near or self.targets
            self._weighted = len({t.weight for t in self.targets}) > 1
        self._seen = instances

    def pick(self, *, key: str = "", tried: Collection[str] = ()) -> Target | None:
        """Return the target for the next call, None when all healthy ones are full or tried.

        With a key it is the first usable one in the key's own order (`ranking`); without, the
        less busy of two drawn at random among the usable ones, near ones first.
        """
        now = time.monotonic()
        if key:
            ordered = ranking(key, self.targets)
            return next((t for t in ordered if self._fits(t, tried, now)), None)
        near = [t for t in self._near if self._fits(t, tried, now)]
        if not near and self._near is not self.targets:
            near = [t for t in self.targets if self._fits(t, tried, now)]
        if len(near) < 2:
            return near[0] if near else None
        return self._less_busy(near)

    def least_bad(self) -> Target | None:
        """Return the ejected or resting target that is due first, None when all are full."""
        return min(
            (t for t in self.targets if t.pending < self._limit),
            key=lambda t: max(t.ejected_until, t.resting_until),
            default=None,
        )

    def _fits(self, target: Target, tried: Collection[str], now: float) -> bool:
        return target.usable(now) and target.pending < self._limit and target.id not in tried

    def _less_busy(self, targets: list[Target]) -> Target:
        count = len(targets)
        first = int(self._random() * count)
        second = (first + 1 + int(self._random() * (count - 1))) % count
        one, other = targets[first], targets[second]
        if self._weighted:
            one_load = (one.pending + 1) / one.weight
            return one if one_load <= (other.pending + 1) / other.weight else other
        return one if one.pending <= other.pending else other


def ranking(key: str, targets: Iterable[Target]) -> list[Target]:
    """Return the targets in a key's own order, best first, by weighted rendezvous hashing.

    Every process comes to the same order, and a target that leaves moves only its own keys.
    Source: Schindler and Schomaker, "Weighted Distributed Hash Tables" (2005): the score
    ``-weight / ln(hash)`` with the hash in (0, 1).
    """
    return sorted(targets, key=lambda target: _score(key, target), reverse=True)


def _score(key: str, target: Target) -> float:
    digest = hashlib.blake2b(f"{key}\0{target.id}".encode(), digest_size=8).digest()
    return -target.weight / math.log(((int.from_bytes(digest) >> 12) + 0.5) / 2**52)
