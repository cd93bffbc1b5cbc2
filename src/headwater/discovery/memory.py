"""What registries of one process share: for tests, and as the model of the contract."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from headwater._http.signal import Signal, wait_for
from headwater.discovery.api import Entry, Mark, Record, Records
from headwater.errors import StoreUnavailable

_LOOK_S = 1.0
_REMOVED = Record("", None, "")


class _Shared:
    def __init__(self) -> None:
        self.mark = Mark(str(uuid.uuid4()), 0)
        self.records: dict[str, Record] = {}
        self.beats: dict[str, int] = {}
        self.signal = Signal()


class MemoryRegistryStore:
    """Implements `RegistryStore`; `again` opens another one on the same content."""

    def __init__(self, shared: _Shared | None = None) -> None:
        """Start empty; see `again`."""
        self._shared = shared or _Shared()
        self._following: asyncio.Event | None = None
        self._closed = False

    def again(self) -> Self:
        """Return another store with the same content, as another process would open it."""
        return type(self)(self._shared)

    @property
    def name(self) -> str:
        """See `RegistryStore.name`."""
        return "memory"

    async def read(self, after: Mark | None) -> Records:
        """See `RegistryStore.read`. Removals are never forgotten."""
        self._check_open()
        mark, records = self._shared.mark, self._shared.records.values()
        known = after is not None and after.store == mark.store
        if known and after is not None and 0 < after.revision <= mark.revision:
            found = [record for record in records if record.revision > after.revision]
            complete = False
        else:
            found = [record for record in records if record.instance is not None]
            complete = True
        return Records(mark, sorted(found, key=lambda record: record.revision), complete)

    async def write(self, entries: Sequence[Entry]) -> Mapping[str, int]:
        """See `RegistryStore.write`."""
        self._check_open()
        stored: dict[str, int] = {}
        for entry in sorted(entries, key=lambda entry: entry.record.id):
            record = _resulting(entry, self._shared.records.get(entry.record.id))
            if record is not None:
                gone = self._losing_to(entry)
                stored[record.id] = self._put(record)
                for other in gone:
                    self._put(msgspec.structs.replace(_REMOVED, id=other.id, holder=other.holder))
        if stored:
            self._shared.signal.send()
        return stored

    def _put(self, record: Record) -> int:
        revision = self._shared.mark.revision + 1
        self._shared.mark = self._shared.mark._replace(revision=revision)
        self._shared.records[record.id] = msgspec.structs.replace(record, revision=revision)
        return revision

    def _losing_to(self, entry: Entry) -> list[Record]:
        """Return the records that an entry removes, since it registers at their address."""
        instance, old = entry.asks_for, self._shared.records.get(entry.record.id)
        if instance is None:
            return []
        if old is not None and old.instance and old.instance.address == instance.address:
            return []
        return [
            record
            for record in self._shared.records.values()
            if record.id != instance.id
            and record.instance is not None
            and record.instance.address == instance.address
        ]

    async def beat(self, server: str) -> Mapping[str, int]:
        """See `RegistryStore.beat`."""
        self._check_open()
        self._shared.beats[server] = self._shared.beats.get(server, 0) + 1
        return dict(self._shared.beats)

    async def leave(self, server: str) -> None:
        """See `RegistryStore.leave`."""
        self._check_open()
        self._shared.beats.pop(server, None)

    async def changed(self) -> None:
        """See `RegistryStore.changed`."""
        if self._following is not None:
            await wait_for(self._following, _LOOK_S)
        self._following = self._shared.signal.next

    async def close(self) -> None:
        """See `RegistryStore.close`."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            reason = "it has been closed: open it again"
            raise StoreUnavailable(store=self.name, reason=reason, outcome="not stored")


def _resulting(entry: Entry, old: Record | None) -> Record | None:
    """Return what an entry makes of a record; None: it is not stored."""
    record = entry.record
    if old is not None and not entry.registers:
        record = msgspec.structs.replace(old, override=record.override)
    present = old is not None and old.instance is not None
    if record.instance is None:
        record = msgspec.structs.replace(record, override=None)
    elif old is not None and present and not entry.overrides:
        record = msgspec.structs.replace(record, override=old.override)
    if entry.expected is not None:
        return record if entry.expected == (old.revision if old else 0) else None
    if record.instance is None:
        return record if present else None
    same = old is not None and record == msgspec.structs.replace(
        old, holder=record.holder, revision=record.revision
    )
    return None if same else record


__all__ = ["MemoryRegistryStore"]
