"""What the registry tells its watchers, encoded once for all of them."""

from collections.abc import AsyncIterator
from typing import Self

import msgspec

from headwater._http.signal import Signal, wait_for
from headwater._http.sse import HEARTBEAT, encode_event
from headwater.discovery.api import Instance
from headwater.discovery.registry import Change, Registry

_encode = msgspec.json.Encoder().encode


class Snapshot(msgspec.Struct, frozen=True):
    """Everything the registry knows at a revision; see `Standing.settling_s`."""

    epoch: str
    revision: int
    instances: list[Instance]
    settling_s: float = 0.0

    @classmethod
    def of(cls, registry: Registry) -> Self:
        """Return what a registry knows now."""
        return cls(registry.epoch, registry.revision, registry.all(), registry.settling_s)


class Delta(msgspec.Struct, frozen=True):
    """The changes up to a revision, oldest first."""

    epoch: str
    revision: int
    changes: list[Change]


class Feed:
    """Follows a registry for any number of watchers."""

    def __init__(self, registry: Registry, *, heartbeat_s: float) -> None:
        """Follow this registry; a silent stream carries a comment every ``heartbeat_s``."""
        self._registry = registry
        self._heartbeat_s = heartbeat_s
        self._signal = Signal()
        self._latest: tuple[int, int, bytes] = (-1, -1, b"")
        self.watchers = 0
        registry.listen(self._changed)

    def close(self) -> None:
        """Follow the registry no more."""
        self._registry.unlisten(self._changed)

    @property
    def signal(self) -> Signal:
        """Beats at each change."""
        return self._signal

    async def stream(self, epoch: str, revision: int) -> AsyncIterator[bytes]:
        """Yield server-sent events for ever: what was missed, or a snapshot, then each change.

        Args:
            epoch: the epoch that the watcher has seen, or empty.
            revision: the revision that it has seen.
        """
        registry = self._registry
        self.watchers += 1
        try:
            known = registry.changes_since(revision) if epoch == registry.epoch else None
            if known is None:
                revision = registry.revision
                snapshot = Snapshot.of(registry)
                yield encode_event("snapshot", _encode(snapshot), id=f"{registry.epoch}.{revision}")
            else:
                yield HEARTBEAT
            while True:
                following = self._signal.next
                if registry.revision != revision:
                    event, revision = self._delta(revision), registry.revision
                    yield event
                elif not await wait_for(following, self._heartbeat_s):
                    yield HEARTBEAT
        finally:
            self.watchers -= 1

    async def wait_beyond(self, revision: int, timeout_s: float) -> None:
        """Return when the registry is at another revision than this, or after the time."""
        following = self._signal.next
        if self._registry.revision == revision:
            await wait_for(following, timeout_s)

    def _delta(self, revision: int) -> bytes:
        # All watchers that kept up ask for the same delta: it is encoded once.
        registry = self._registry
        if self._latest[:2] != (revision, registry.revision):
            changes = registry.changes_since(revision)
            id = f"{registry.epoch}.{registry.revision}"
            if changes is None:  # the watcher was slower than the log is long
                content = _encode(Snapshot.of(registry))
                event = encode_event("snapshot", content, id=id)
            else:
                content = _encode(Delta(registry.epoch, registry.revision, changes))
                event = encode_event("changes", content, id=id)
            self._latest = (revision, registry.revision, event)
        return self._latest[2]

    def _changed(self, _: Change) -> None:
        self._signal.send()


__all__ = ["Delta", "Feed", "Snapshot"]
