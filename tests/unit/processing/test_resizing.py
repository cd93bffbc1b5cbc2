"""The tokens of segments that are split and merged, against a model of events and streams."""

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from headwater.eventbus import BusEvent, Delivery
from headwater.eventbus.memory import MemoryEventBus
from headwater.eventstore import StoredEvent
from headwater.eventstore.memory import MemoryEventStore
from headwater.messages.hashing import stable_hash
from headwater.processing import BusSource, StoreSource
from headwater.processing.handling.applier import Applier
from headwater.processing.running.resizing import joined, moved, passed, resized
from headwater.processing.sources.source import Source, SourcePage
from headwater.processing.sources.tokens import Token, token_of
from headwater.views import Segment

EVENTS = 30
STREAMS = 12
PARTITIONS = 3

steps = st.lists(
    st.one_of(
        st.tuples(st.just("resize"), st.integers(1, 9), st.just(0)),
        st.tuples(st.just("work"), st.integers(0, 8), st.integers(1, 12)),
    ),
    max_size=25,
)


class Model:
    """Segments that handle events; ``handled`` are the places of the events of each stream."""

    def __init__(self, source: Source, count: int) -> None:
        self.source = source
        self.applier = Applier(source)
        token = asyncio.run(source.begin()).text
        self.segments = [Segment("p", 1, index, count, token) for index in range(count)]
        self.handled: dict[str, list[int]] = {f"s{n}": [] for n in range(STREAMS)}

    def token(self, index: int) -> Token:
        segment = self.segments[index]
        return self.source.restrict(token_of(segment.token), {index}, segment.count)

    def resize(self, count: int) -> None:
        self.segments = resized(self.source, self.segments, count)
        assert [(s.index, s.count) for s in self.segments] == [(n, count) for n in range(count)]

    def handle(self, index: int, page: SourcePage, places: Sequence[int]) -> None:
        token, count = self.token(index), len(self.segments)
        done = passed(self.applier, page, token)
        owners = self.source.segments_of(page, count)
        for event, place, over, owner in zip(page.events, places, done, owners, strict=True):
            if owner == index and not over:
                self.handled[event.stream].append(place)
        token = moved(self.source, token, self.source.restrict(page.token, {index}, count))
        segment = self.segments[index]
        self.segments[index] = Segment("p", 1, index, segment.count, token.text)

    def ends_as(self, streams: Sequence[str]) -> None:
        """Each event was handled once, in the order of its stream, and no fact is left over."""
        assert self.handled == {
            name: [n for n, stream in enumerate(streams) if stream == name] for name in self.handled
        }
        assert all(self.token(n).ahead == () for n in range(len(self.segments)))


def names(numbers: Sequence[int]) -> list[str]:
    return [f"s{number}" for number in numbers]


streams_of_events = st.lists(st.integers(0, STREAMS - 1), min_size=EVENTS, max_size=EVENTS).map(
    names
)


@given(streams_of_events, st.integers(1, 6), steps)
def test_every_event_of_a_store_is_handled_once(
    streams: list[str], count: int, todo: list[tuple[str, int, int]]
) -> None:
    """However far segments are when they are split and merged, nothing is lost or doubled."""
    source = StoreSource(MemoryEventStore(), "s")
    events = [
        StoredEvent(
            position=n + 1, stream=stream, version=1, type="E", type_version=1, time=0, tags=(),
            data=b"", metadata=b"",
        )
        for n, stream in enumerate(streams)
    ]  # fmt: skip
    model = Model(source, count)

    def work(index: int, size: int) -> None:
        at = model.token(index).position("s")
        through = min(EVENTS, at + size)
        token = Token({"s": {0: (source.store.epoch, through)}})
        model.handle(index, SourcePage(events[at:through], token), range(at, through))

    for kind, number, size in todo:
        if kind == "resize":
            model.resize(number)
        else:
            work(number % len(model.segments), size)
    for index in range(len(model.segments)):
        work(index, EVENTS)
    model.ends_as(streams)


@given(streams_of_events, st.integers(1, 6), st.booleans(), steps)
def test_every_event_of_a_bus_is_handled_once(
    streams: list[str], count: int, whole: bool, todo: list[tuple[str, int, int]]
) -> None:
    """So too on a bus, whose segments have partitions of their own, or all read all of them."""
    source = BusSource(MemoryEventBus(partitions=PARTITIONS), whole=whole)
    log: list[list[tuple[int, Delivery]]] = [[] for _ in range(PARTITIONS)]
    for n, stream in enumerate(streams):
        event = BusEvent(
            source="s", epoch="e", position=n + 1, stream=stream, version=1, type="E",
            type_version=1, time=0, tags=(), data=b"", metadata=b"",
        )  # fmt: skip
        part = log[stable_hash(stream) % PARTITIONS]
        part.append((n, Delivery(stable_hash(stream) % PARTITIONS, len(part), event)))
    model = Model(source, source.split(count))

    def work(index: int, size: int) -> None:
        token = model.token(index)
        for partition, offset in sorted(token.offsets.items()):
            found = log[partition][offset + 1 : offset + 1 + size]
            if found:
                page = source._page(model.token(index), [delivery for _, delivery in found])
                model.handle(index, page, [place for place, _ in found])

    for kind, number, size in todo:
        if kind == "resize":
            model.resize(source.split(number))
        else:
            work(number % len(model.segments), size)
    for index in range(len(model.segments)):
        work(index, EVENTS)
    model.ends_as(streams)


def test_a_merged_segment_is_where_the_last_one_was() -> None:
    """A merge begins at the least token and notes once who was further, and how far."""
    source = StoreSource(MemoryEventStore(), "s")

    def at(position: int) -> Token:
        return Token({"s": {0: (source.store.epoch, position)}})

    four = [Segment("p", 1, n, 4, at(p).text) for n, p in enumerate((5, 9, 9, 9))]
    (one,) = resized(source, four, 1)
    token = token_of(one.token)
    assert token.position("s") == 5
    assert [(fact.count, fact.indices, fact.token) for fact in token.ahead] == [
        (4, (1, 2, 3), at(9))
    ]
    again = [token_of(s.token) for s in resized(source, [one], 2)]
    assert again == [token, token]
    assert moved(source, token, at(8)).ahead == token.ahead
    assert moved(source, token, at(9)) == at(9)
    assert joined(source, token, at(5)) == token
    assert joined(source, at(5), token) == token
    assert joined(source, token, at(6)) is None


def test_claims_go_on_with_their_owners() -> None:
    """Whoever held a segment keeps its parts; a merged one goes to one of its owners."""
    source = StoreSource(MemoryEventStore(), "s")
    text = asyncio.run(source.begin()).text
    two = [Segment("p", 1, 0, 2, text, "a", 7.0, 3), Segment("p", 1, 1, 2, text, "b", 8.0, 4)]
    split = resized(source, two, 4)
    assert [(s.owner, s.lease_until) for s in split] == [("a", 7), ("b", 8), ("a", 7), ("b", 8)]
    assert [s.owner for s in resized(source, two, 1)] == ["a"]
    mixed = [Segment("p", 1, 0, 2, text), two[1]]
    assert [s.owner for s in resized(source, mixed, 1)] == ["b"]
    assert [s.owner for s in resized(source, two, 3)] == ["a", "b", "a"]
