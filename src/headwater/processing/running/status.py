"""What processors and sagas do in this process, for whoever asks."""

import msgspec

from headwater.processing.running.pausing import ProcessorPause


class SegmentGroupStatus(msgspec.Struct, frozen=True):
    """Segments of this process that are equally far.

    ``error`` and ``attempts`` tell why they cannot go on at the moment.
    """

    segments: tuple[int, ...]
    position: int
    head: int
    error: str = ""
    attempts: int = 0

    @property
    def lag(self) -> int:
        """How many events are still to be read."""
        return max(0, self.head - self.position)


class WaitingStatus(msgspec.Struct, frozen=True):
    """A sequence that waits for its next try, ``due`` in seconds since 1970 UTC, and why."""

    sequence: str
    due: float
    attempts: int
    error: str


class BusyStatus(msgspec.Struct, frozen=True):
    """A handler that is at work on an event for a while."""

    handler: str
    type: str
    stream: str
    position: int
    seconds: float


class LocalStatus(msgspec.Struct, frozen=True):
    """What a processor does in this process.

    Attributes:
        name: its name.
        generation: of the views it works on.
        groups: its segments, by how far they are; of a processor that is paused all segments.
        handled: events handled since the start.
        letters: events that were set aside, in all processes: failed, or behind one that did.
        parked: sequences that are known to be parked.
        waiting: sequences here that are tried again by themselves, the next ones first.
        failures: tries of events that failed since the start.
        retries: letters that were tried again since the start.
        busy: handlers that are at work on one event for over a second, and for how long.
        failure: what keeps it from working at the moment, empty when nothing does.
        paused: that it is paused, in all processes.
    """

    name: str
    generation: int
    groups: tuple[SegmentGroupStatus, ...]
    handled: int
    parked: int
    failure: str
    letters: int = 0
    waiting: tuple[WaitingStatus, ...] = ()
    busy: tuple[BusyStatus, ...] = ()
    failures: int = 0
    retries: int = 0
    paused: ProcessorPause | None = None


class SagaStatus(msgspec.Struct, frozen=True):
    """What a saga processor sends from this process.

    Attributes:
        waiting: commands that are not acknowledged yet.
        in_flight: those being sent right now.
        due_s: in how many seconds the next deadline is due; None when none is running.
        retrying: for each command that is being retried: its id, tries, and the last error.
    """

    waiting: int
    in_flight: int
    due_s: float | None
    retrying: tuple[tuple[str, int, str], ...]
