"""The checker agrees with an exhaustive search for an order that explains a history."""

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.eventstore import StoredEvent
from headwater.testing.history import (
    Append,
    Call,
    Head,
    History,
    Number,
    Refused,
    Stored,
    Version,
    Write,
    check_history,
    digest_of,
)

STREAMS = st.sampled_from("ab")
ENDLESS = 1000


def stored(log: Sequence[tuple[str, int]]) -> list[StoredEvent]:
    """Return a log of events, each a stream and a number, in stored form."""
    versions = {"a": 0, "b": 0}
    events = []
    for position, (stream, number) in enumerate(log, start=1):
        versions[stream] += 1
        data = b"%d" % number
        events.append(StoredEvent(position, stream, versions[stream], "A", 1, 0, (), data, b""))
    return events


class State:
    """A store as simple as can be: its log, and the outcomes of its keys."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int]] = []
        self.outcomes: dict[str, Stored] = {}

    def version(self, stream: str) -> int:
        return sum(each == stream for each, _ in self.log)

    def append(self, request: Append, number: int) -> Stored:
        """Store the one event of an append."""
        stream = request.writes[0].stream
        self.log.append((stream, number))
        outcome = Stored(len(self.log), len(self.log), 0, (self.version(stream),))
        if request.key:
            self.outcomes[request.key] = outcome
        return outcome


def explained(calls: Sequence[Call], log: Sequence[tuple[str, int]]) -> bool:
    """Whether some order of the calls, each at a moment of its own, leads to the log."""
    ends = [ENDLESS if call.is_open else call.until for call in calls]
    for order in itertools.permutations(range(len(calls))):
        pairs = itertools.combinations(order, 2)
        if any(ends[later] < calls[earlier].begin for earlier, later in pairs):
            continue  # not the order in time
        unknown = [place for place in order if calls[place].is_open]
        for chosen in itertools.product((False, True), repeat=len(unknown)):
            happened = dict(zip(unknown, chosen, strict=True))
            state = State()
            fits = all(_fits(calls[n], n, state, happened=happened.get(n)) for n in order)
            if fits and state.log == list(log):
                return True
    return False


def _fits(call: Call, number: int, state: State, *, happened: bool | None) -> bool:
    """Carry out a call; whether its answer is right."""
    request, told = call.request, call.outcome
    if isinstance(request, Head | Version):
        version = state.version(request.stream) if isinstance(request, Version) else 0
        actual = version if isinstance(request, Version) else len(state.log)
        return isinstance(told, Number) and told.value == actual
    assert isinstance(request, Append)
    known = state.outcomes.get(request.key)
    write = request.writes[0]
    met = write.expected in (None, state.version(write.stream))
    if isinstance(told, Stored):
        if known is not None:
            return told == msgspec.structs.replace(known, duplicate=True)
        # A duplicate of something that is not known is one that was repeated on the way.
        first = msgspec.structs.replace(told, duplicate=False)
        return met and state.append(request, number) == first
    if isinstance(told, Refused) and told.code == "concurrency-conflict":
        actual = told.fields["actual"] == state.version(write.stream)
        return known is None and not met and actual
    if happened and known is None:
        state.append(request, number)
        return met
    return True


@st.composite
def histories(draw: Any) -> tuple[list[Call], list[tuple[str, int]]]:
    """Return calls that a real store may have answered, with some of it changed; and the log."""
    count = draw(st.integers(1, 5))
    moments = draw(st.permutations(range(2 * count)))
    state = State()
    calls = []
    for number in range(count):
        begin, end = sorted(moments[2 * number : 2 * number + 2])
        kind = draw(st.sampled_from(["append"] * 3 + ["head", "version"]))
        call = Call(number + 1, "p", "", "", 0, Head(), begin, end)
        if kind == "append":
            call.request, call.outcome = draw(_appends(number, state))
        elif kind == "version":
            call.request = Version(draw(STREAMS))
            call.outcome = Number(state.version(call.request.stream))
        else:
            call.outcome = Number(len(state.log))
        calls.append(call)
    for _ in range(draw(st.integers(0, 2))):
        _change(draw, calls, state.log)
    return calls, state.log


@st.composite
def _appends(draw: Any, number: int, state: State) -> tuple[Append, Stored | Refused | None]:
    """Return an append and its outcome; what it stores is added to the state."""
    stream = draw(STREAMS)
    version = state.version(stream)
    expected = draw(st.sampled_from([None, version, version, max(0, version - 1)]))
    digest = digest_of(StoredEvent(0, "", 0, "A", 1, 0, (), b"%d" % number, b""))
    request = Append((Write(stream, (digest,), expected),), draw(st.sampled_from(["", "", "k"])))
    how = draw(st.sampled_from(["answered"] * 3 + ["unknown", "lost", "overloaded"]))
    known = state.outcomes.get(request.key)
    outcome: Stored | Refused | None = None
    if how == "overloaded":
        return request, Refused("overloaded", "not stored")
    if known is not None:
        outcome = msgspec.structs.replace(known, duplicate=True)
    elif expected not in (None, version):
        fields = {"stream": stream, "expected": expected, "actual": version}
        outcome = Refused("concurrency-conflict", "not stored", fields)
    elif how != "lost":
        outcome = state.append(request, number)
    return request, outcome if how == "answered" else None


def _change(draw: Any, calls: list[Call], log: list[tuple[str, int]]) -> None:
    """Change a time, an answer, or the log."""
    which = draw(st.sampled_from(["time", "answer", "log"]))
    call = draw(st.sampled_from(calls))
    if which == "time":
        call.begin, call.end = sorted(draw(st.tuples(st.integers(-1, 12), st.integers(-1, 12))))
    elif which == "answer":
        number = draw(st.integers(0, 4))
        if isinstance(call.outcome, Number):
            call.outcome = Number(number)
        elif isinstance(call.outcome, Stored):
            call.outcome = Stored(number, number, 0, call.outcome.versions, draw(st.booleans()))
        elif isinstance(call.outcome, Refused) and call.outcome.fields:
            call.outcome.fields["actual"] = number
    elif log:
        event = log.pop(draw(st.integers(0, len(log) - 1)))
        if draw(st.booleans()):
            log.insert(draw(st.integers(0, len(log))), event)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_the_checker_finds_what_a_search_finds(
    made: tuple[list[Call], list[tuple[str, int]]],
) -> None:
    """There is a violation if and only if no order of the calls explains answers and log."""
    calls, log = made
    history = History()
    history.calls = calls
    verdict = check_history(history, stored(log))
    assert (not verdict.violations) == explained(calls, log), (calls, log, verdict)
