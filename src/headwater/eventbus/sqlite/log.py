"""The log of the SQLite event bus: what runs on the threads of the database."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apsw
import msgspec

from headwater._sql.resources import statements
from headwater.errors import ConfigurationError
from headwater.eventbus.api import Delivery
from headwater.eventbus.base import Entry, delivery
from headwater.eventbus.checks import check_kept
from headwater.eventbus.retention import AT_ONCE, Growth, Retention
from headwater.eventbus.retention import forgettable as _forgettable
from headwater.eventbus.types import EventType, clashes

_SQL = statements("headwater.eventbus.sqlite", "log.sql")
_json = msgspec.json.Encoder().encode
_decode_type = msgspec.json.Decoder(EventType).decode


def fix_partitions(writer: apsw.Connection, partitions: int) -> None:
    """Store the number of partitions the first time.

    Raises:
        ConfigurationError: another number is stored.
    """
    stored = writer.execute(_SQL["partitions"]).get
    if stored is None:
        writer.execute(_SQL["set_partitions"], (partitions,))
    elif stored != partitions:
        raise ConfigurationError(
            subject=f"event bus {writer.filename}",
            reason=f"it was made with {stored} partitions, {partitions} were asked for: "
            f"set {stored}, or use another file",
        )


def append(writer: apsw.Connection, entries: Sequence[Entry]) -> None:
    """Append those entries that are not in the log yet, in their order."""
    by_origin: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        by_origin.setdefault((entry.source, entry.epoch), []).append(entry)
    ends: dict[int, int] = {}
    for (source, epoch), group in by_origin.items():
        origin = _origin(writer, source, epoch)
        positions = _json([entry.position for entry in group]).decode()
        known = {row[0] for row in writer.execute(_SQL["known"], (origin, positions))}
        rows = []
        for entry in group:
            if entry.position in known:
                continue
            known.add(entry.position)
            partition = entry.partition
            if partition not in ends:
                ends[partition] = end(writer, partition)
            ends[partition] += 1
            rows.append((partition, ends[partition], entry.document, origin, entry.position))
        writer.executemany(_SQL["append"], rows)


def begin(connection: apsw.Connection, partition: int) -> int:
    """Return the offset of the first event of a partition, 0 when it is empty."""
    return int(connection.execute(_SQL["begin"], (partition,)).get)


def end(connection: apsw.Connection, partition: int) -> int:
    """Return the offset of the last event of a partition, -1 when it is empty."""
    return int(connection.execute(_SQL["end"], (partition,)).get)


def read(reader: apsw.Connection, offsets: Mapping[int, int], page_size: int) -> list[Delivery]:
    """Return the next events after the offsets, of the first partitions first.

    Raises:
        EventsForgotten: what comes after one of the offsets is not there any more.
        MalformedMessage: another program has stored something that is not a CloudEvents document.
    """
    page: list[Delivery] = []
    for partition, after in offsets.items():
        if len(page) == page_size:
            break
        values = (partition, after, page_size - len(page))
        rows: Any = reader.execute(_SQL["page"], values).fetchall()
        if rows:  # offsets are dense: a gap is what was forgotten
            check_kept(partition, after, rows[0][0], bus=reader.filename)
        page += [delivery(partition, offset, document) for offset, document in rows]
    return page


def announce(
    writer: apsw.Connection, source: str, types: Sequence[EventType]
) -> list[tuple[EventType, EventType]]:
    """Store the types of a service, unless one is another type than another service's."""
    rows: Any = writer.execute(_SQL["types"]).fetchall()
    found = clashes(types, [_decode_type(document) for (document,) in rows])
    if not found:
        writer.execute(_SQL["forget_types"], (source,))
        documents = [(source, one.name, _json(one).decode()) for one in types]
        writer.executemany(_SQL["add_type"], documents)
    return found


def note_reader(
    writer: apsw.Connection, reader: str, offsets: Mapping[int, int], now: float
) -> None:
    """Store how far somebody has read."""
    rows = [
        {"reader": reader, "partition": p, "offset": offset, "now": now}
        for p, offset in offsets.items()
    ]
    writer.executemany(_SQL["note_reader"], rows)


def forgettable(
    writer: apsw.Connection, partitions: Iterable[int], *, now: float, retention: Retention
) -> dict[int, int]:
    """Note how far the partitions are; return up to where each may be forgotten."""
    ends = {partition: end(writer, partition) for partition in partitions}
    for partition, until in ends.items():
        if until >= 0:
            writer.execute(_SQL["grow"], {"partition": partition, "until": until, "now": now})
    growth: Any = writer.execute(_SQL["growth"])
    readers: Any = writer.execute(_SQL["readers"], (now - retention.silent_s,)).fetchall()
    steps = map(Growth._make, growth)
    return _forgettable(steps, dict(readers), ends, now=now, retention=retention)


def forget(writer: apsw.Connection, *, partition: int, until: int) -> int:
    """Remove some of the events of a partition up to an offset, the first ones; return how many."""
    writer.execute(_SQL["forget"], (partition, until, AT_ONCE))
    count = writer.changes()
    if count < AT_ONCE:
        writer.execute(_SQL["forget_growth"], (partition, until))
    return count


def _origin(writer: apsw.Connection, source: str, epoch: str) -> int:
    found = writer.execute(_SQL["origin"], (source, epoch)).get
    if found is None:
        found = writer.execute(_SQL["add_origin"], (source, epoch)).get
    return int(found)
