"""What is read out of the notes of a bus on Kafka."""

from headwater.eventbus.kafka import notes
from headwater.eventbus.kafka.notes import Note
from headwater.eventbus.types import EventType


def claim(key: str, source: str, *fields: str) -> Note:
    types = [EventType(f"T{field[0]}", source, f"{source}.T", {field: ""}) for field in fields]
    types = [
        EventType(one.name, one.source, one.declared, one.fields, tuple(one.fields))
        for one in types
    ]
    return Note(f"claim/{key}", notes.claimed(source, types)[1], 0.0)


def gone(key: str) -> Note:
    return Note(f"claim/{key}", None, 0.0)


def test_the_first_in_the_log_wins() -> None:
    """A claim is judged by those before it, and never by what comes later."""
    log = [claim("1", "a", "x1"), claim("2", "b", "x2"), claim("3", "c", "x2")]
    assert notes.decide(log, "claim/1").clashes == []
    assert len(notes.decide(log, "claim/2").clashes) == 1
    assert notes.decide(log[1:], "claim/2").clashes == []


def test_a_claim_replaces_the_former_one_of_its_source() -> None:
    """What a service claims no more is free for others, and its old claim is taken back."""
    log = [claim("1", "a", "x1"), claim("2", "a", "y1"), claim("3", "b", "x2")]
    assert notes.decide(log, "claim/2") == ([], ["claim/1"])
    assert notes.decide([*log, gone("1")], "claim/3").clashes == []


def test_what_was_refused_is_taken_back_first() -> None:
    """A refused claim whose service died does not win when its rival has gone."""
    log = [claim("1", "a", "x1"), claim("2", "b", "x2"), claim("3", "a", "y1")]
    assert notes.decide(log, "claim/3").over == ["claim/2", "claim/1"]
    later = [*log, gone("2"), claim("4", "a", "x1")]
    assert notes.decide(later, "claim/4").clashes == []


def test_growth_is_counted_once() -> None:
    """Two who note that a partition has grown at the same time count no byte twice."""
    log = [
        Note(*notes.grown(0, 9, 10.0), 1.0),
        Note(*notes.grown(0, 14, 10.0), 2.0),
        Note(*notes.grown(0, 12, 20.0), 2.0),
        Note(*notes.grown(1, 4, 1.0), 3.0),
        Note("growth/1/4", None, 4.0),
    ]
    found = notes.growth_of(notes.latest(log), {0: 5, 1: 0})
    assert [tuple(step) for step in found] == [
        (0, 9, 1.0, 50), (0, 12, 2.0, 60), (0, 14, 2.0, 20),
    ]  # fmt: skip
