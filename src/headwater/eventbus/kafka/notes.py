"""What is noted about a bus: announcements, readers, growth, in a compacted topic of its own.

All of it has one partition, and so one order, and one clock: that of the broker, which stamps what
it appends. A note is a key and a JSON value; one without a value takes it back.

==============================  ============================================================
``log``                         the id of the topic of events
``claim/<number>``              a service announces its types
``reader/<reader>/<partition>`` how far somebody has read for good
``last/<partition>/<of whom>``   the last event of a source there
``growth/<partition>/<offset>`` a partition went up to there at that time
``clock``                       nothing: its time is wanted
==============================  ============================================================

Of two announcements that clash the first in the log wins, and every reader of the log sees the
same: so a service stores its claim, reads the log up to it, and knows. What was refused is taken
back, before what was replaced: else a refused one could win later, when its rival is gone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import uuid4

import msgspec

from headwater.eventbus.kafka.publishing import Record
from headwater.eventbus.kafka.reading import messages
from headwater.eventbus.kafka.settings import Place
from headwater.eventbus.kafka.stored import Last
from headwater.eventbus.retention import Growth, Retention
from headwater.eventbus.types import EventType, clashes

_SAMPLE = 100
CLOCK = "clock"
LOG = "log"
_CLAIM, _READER, _GROWTH, _LAST = "claim/", "reader/", "growth/", "last/"


class Note(NamedTuple):
    """A note as it was read; ``at`` is seconds since 1970 UTC, by the broker."""

    key: str
    value: bytes | None
    at: float


class Claim(msgspec.Struct, frozen=True):
    """A service announces which types of events it publishes."""

    source: str
    types: tuple[EventType, ...]


class Step(msgspec.Struct, frozen=True):
    """A partition has grown; ``bytes`` is how large its events are on average."""

    bytes: float


class Reached(msgspec.Struct, frozen=True):
    """Somebody has read up to an offset."""

    offset: int


_encode = msgspec.json.Encoder().encode
_decode_claim = msgspec.json.Decoder(Claim).decode
_decode_step = msgspec.json.Decoder(Step).decode
_decode_last = msgspec.json.Decoder(Last).decode
_decode_reached = msgspec.json.Decoder(Reached).decode


class Verdict(NamedTuple):
    """What became of a claim, and which claims are to be taken back, in this order."""

    clashes: list[tuple[EventType, EventType]]
    over: list[str]


def claimed(source: str, types: Sequence[EventType]) -> tuple[str, bytes]:
    """Return a new claim: its key and its value."""
    return f"{_CLAIM}{uuid4()}", _encode(Claim(source, tuple(types)))


def decide(notes: Iterable[Note], mine: str) -> Verdict:
    """Return what became of a claim: it is judged by those before it in the log."""
    claims: dict[str, Claim] = {}
    for note in notes:
        if not note.key.startswith(_CLAIM):
            continue
        if note.value is None:
            claims.pop(note.key, None)
        else:
            claims[note.key] = _decode_claim(note.value)
        if note.key == mine:
            break
    kept: dict[str, tuple[str, Claim]] = {}
    refused: list[str] = []
    replaced: list[str] = []
    found: list[tuple[EventType, EventType]] = []
    for key, claim in claims.items():
        others = [one for _, other in kept.values() for one in other.types]
        found = clashes(claim.types, others)
        if found:
            refused.append(key)
        else:
            if claim.source in kept:
                replaced.append(kept[claim.source][0])
            kept[claim.source] = key, claim
    return Verdict(found, [*refused, *replaced])


def reached(reader: str, offsets: Mapping[int, int]) -> list[tuple[str, bytes]]:
    """Return the notes that somebody has read up to some offsets."""
    return [
        (f"{_READER}{reader}/{partition}", _encode(Reached(offset)))
        for partition, offset in offsets.items()
    ]


def grown(partition: int, offset: int, bytes_each: float) -> tuple[str, bytes]:
    """Return the note that a partition has grown up to an offset."""
    return f"{_GROWTH}{partition}/{offset}", _encode(Step(bytes_each))


def growth_key(step: Growth) -> str:
    """Return the key of the note that a step comes from."""
    return f"{_GROWTH}{step.partition}/{step.offset}"


def latest(notes: Iterable[Note]) -> dict[str, Note]:
    """Return the last note of each key, without those that were taken back."""
    found: dict[str, Note] = {}
    for note in notes:
        found.pop(note.key, None)
        if note.value is not None:
            found[note.key] = note
    return found


def growth_of(known: Mapping[str, Note], begins: Mapping[int, int]) -> list[Growth]:
    """Return how all partitions have grown, from where they begin by now."""
    steps: list[tuple[int, int, float, float]] = []
    for key, note in known.items():
        if key.startswith(_GROWTH) and note.value is not None:
            _, where, until = key.split("/")
            steps.append((int(where), int(until), note.at, _decode_step(note.value).bytes))
    last = {partition: begin - 1 for partition, begin in begins.items()}
    found: list[Growth] = []
    for partition, offset, at, each in sorted(steps):
        count = max(0, offset - last.get(partition, -1))
        found.append(Growth(partition, offset, at, round(count * each)))
        last[partition] = max(offset, last.get(partition, -1))
    return found


def readers_of(known: Mapping[str, Note], *, now: float, retention: Retention) -> dict[int, int]:
    """Return by partition the least offset that somebody who is not silent has read."""
    found: dict[int, int] = {}
    for key, note in known.items():
        if (
            key.startswith(_READER)
            and note.value is not None
            and note.at > now - retention.silent_s
        ):
            partition, offset = int(key.rpartition("/")[2]), _decode_reached(note.value).offset
            found[partition] = min(offset, found.get(partition, offset))
    return found


def stored(partition: int, last: Last, source: str, epoch: str) -> tuple[str, bytes]:
    """Return the note of the last event of a source in a partition."""
    return f"{_LAST}{partition}/{epoch}/{source}", _encode(last)


def last_of(known: Mapping[str, Note], source: str, epoch: str) -> dict[int, Last]:
    """Return by partition the last event of a source, as it was noted."""
    found: dict[int, Last] = {}
    for key, note in known.items():
        partition, _, whose = key.removeprefix(_LAST).partition("/")
        if key.startswith(_LAST) and whose == f"{epoch}/{source}" and note.value is not None:
            found[int(partition)] = _decode_last(note.value)
    return found


def records(place: Place, given: Iterable[tuple[str, bytes | None]]) -> list[Record]:
    """Return notes as they are stored."""
    return [Record(place.notes, 0, key.encode(), value, []) for key, value in given]


def read(place: Place, *, patience_s: float) -> list[Note]:
    """Return all notes that are there, in their order; for a thread.

    Raises:
        StoreUnavailable: they cannot be read.
    """
    found: list[Note] = []
    for message in messages(place, place.notes, 0, first=0, patience_s=patience_s):
        key = message.key()
        _, at_ms = message.timestamp()
        text = key.decode(errors="replace") if isinstance(key, bytes) else str(key or "")
        value = message.value()
        found.append(Note(text, value.encode() if isinstance(value, str) else value, at_ms / 1000))
    return found


def bytes_each(
    place: Place, partition: int, *, first: int, following: int, patience_s: float
) -> float:
    """Return how large the events of a part of a partition are on average, by its last ones."""
    first = max(first, following - _SAMPLE)
    sizes = [
        len(message)
        for message in messages(
            place, place.events, partition, first=first, following=following, patience_s=patience_s
        )
    ]
    return sum(sizes) / len(sizes) if sizes else 0.0


__all__ = [
    "CLOCK",
    "LOG",
    "Note",
    "Verdict",
    "bytes_each",
    "claimed",
    "decide",
    "grown",
    "growth_key",
    "growth_of",
    "last_of",
    "latest",
    "reached",
    "read",
    "readers_of",
    "records",
    "stored",
]
