"""The log as the checker sees it: an index over what is stored, not its contents.

A *prefix* is how many events there were: prefix 7 is the log after its seventh event. Events are
counted by their rank, from 0, which is their position less one in a log that is well-formed.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from headwater.eventstore import EventFilter, FilterItem, StoredEvent
from headwater.eventstore.api import AHEAD_US_MAX
from headwater.eventstore.sharded import shard_of
from headwater.testing.history.calls import combined, digest_of


class _About(msgspec.Struct):
    """What is needed of an event's metadata."""

    correlation_id: str = ""
    causation_id: str = ""


_about = msgspec.json.Decoder(_About).decode
_NONE: "array[int]" = array("q")

Complain = Callable[[str, str], None]


class Log:
    """An index over the events of a log, in the order in which they are stored."""

    def __init__(
        self,
        complain: Complain,
        *,
        shard: int = 0,
        shards: int = 1,
        conversations: frozenset[str] = frozenset(),
        folded: Callable[[str], bool] = lambda _: False,
        foreign: Callable[[StoredEvent], bool] | None = None,
    ) -> None:
        """Begin empty; `add` takes the events.

        Args:
            complain: is told what is wrong with the log itself: the rule, and what was found.
            shard: the number of the log in its store.
            shards: how many logs the store is spread over.
            conversations: those whose events are looked for.
            folded: of which streams the events are kept.
            foreign: which events are nobody's call.
        """
        self._complain = complain
        self.shard = shard
        self._shards = shards
        self._conversations = conversations
        self._folded = folded
        self._foreign = foreign
        self.digests = array("Q")
        self.versions = array("q")
        self.times = array("q")
        self.streams: list[str] = []
        self.types: list[str] = []
        self.tags: list[tuple[str, ...]] = []
        self.foreign = bytearray()
        self.of_stream: dict[str, array[int]] = {}
        self.events: dict[str, list[StoredEvent]] = {}
        self.said: dict[str, list[tuple[int, str]]] = {}
        self._names: dict[str, str] = {}
        self._positions: array[int] | None = None  # only where they are not dense
        self._ranks: dict[int, int] = {}
        self._by_tag: dict[str, array[int]] | None = None
        self._by_type: dict[str, array[int]] | None = None

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.streams)

    def add(self, events: Iterable[StoredEvent]) -> None:
        """Take the events that come next."""
        names, of_stream, folded = self._names, self.of_stream, self._folded
        for event in events:
            rank = len(self.streams)
            stream = names.setdefault(event.stream, event.stream)
            ranks = of_stream.get(stream)
            if ranks is None:
                ranks = of_stream[stream] = array("q")
                if folded(stream):
                    self.events[stream] = []
            self._check(event, rank, ranks)
            ranks.append(rank)
            self.digests.append(digest_of(event))
            self.versions.append(event.version)
            self.times.append(event.time)
            self.streams.append(stream)
            self.types.append(names.setdefault(event.type, event.type))
            self.tags.append(event.tags)
            if stream in self.events:
                self.events[stream].append(event)
            if self._conversations:
                self._note_conversation(event, rank)
            if self._foreign is not None:
                self.foreign.append(self._foreign(event))

    def _check(self, event: StoredEvent, rank: int, ranks: Sequence[int]) -> None:
        """Check that positions and versions are dense, and that time does not run backwards."""
        position = event.position
        if self._positions is None and position != rank + 1:
            self._positions = array("q", range(1, rank + 1))
            self._ranks = {place: place - 1 for place in self._positions}
        if self._positions is not None:
            self._positions.append(position)
            self._ranks.setdefault(position, rank)
            before = self._positions[rank - 1] if rank else 0
            if position != before + 1:
                self._complain("log", f"position {position} comes after {before}")
        if event.version != len(ranks) + 1 and (
            not ranks or event.version != self.versions[ranks[-1]] + 1
        ):
            before = self.versions[ranks[-1]] if ranks else 0
            self._complain(
                "log",
                f"position {position} is version {event.version} of {event.stream!r}, which was "
                f"at {before}",
            )
        if rank and self.times[-1] - AHEAD_US_MAX <= event.time < self.times[-1]:
            reason = f"position {position} was recorded at {event.time}, after {self.times[-1]}"
            self._complain("log", reason)

    def _note_conversation(self, event: StoredEvent, rank: int) -> None:
        try:
            about = _about(event.metadata)
        except msgspec.MsgspecError:
            return
        if about.correlation_id in self._conversations:
            self.said.setdefault(about.correlation_id, []).append((rank, about.causation_id))

    def has(self, stream: str) -> bool:
        """Whether it is the log that a stream is in."""
        return self._shards == 1 or shard_of(stream, self._shards) == self.shard

    # --- numbers ---

    def position(self, rank: int) -> int:
        """Return the position of a rank."""
        return rank + 1 if self._positions is None else self._positions[rank]

    def rank(self, position: int) -> int:
        """Return the rank of a position; -1 when there is no such event."""
        if self._positions is None:
            return position - 1 if 0 < position <= len(self.streams) else -1
        return self._ranks.get(position, -1)

    def prefix(self, position: int) -> int:
        """Return how many events there were at a position; one more than all beyond the end."""
        if self._positions is None:
            return min(position, len(self.streams) + 1)
        if position == 0:
            return 0
        return self._ranks.get(position, len(self.streams)) + 1

    def version_at(self, stream: str, prefix: int) -> int:
        """Return the version of a stream at a prefix."""
        return bisect_left(self.of_stream.get(stream, _NONE), prefix)

    def bounds_of_version(self, stream: str, version: int) -> tuple[int, int]:
        """Return the first and last prefix at which a stream has a version.

        The first is beyond the end when it never has.
        """
        ranks = self.of_stream.get(stream, _NONE)
        count = len(ranks)
        if not 0 <= version <= count:
            return len(self) + 1, len(self) + 1
        low = ranks[version - 1] + 1 if version else 0
        return low, ranks[version] if version < count else len(self)

    # --- contents ---

    def row(self, rank: int) -> str:
        """Return what is stored at a rank, for a message."""
        if rank < 0:
            return "there is no such position"
        if rank >= len(self):
            return f"the log ends at {self.position(len(self) - 1) if len(self) else 0}"
        where = f"version {self.versions[rank]} of {self.streams[rank]!r}"
        return f"position {self.position(rank)} is {self.types[rank]!r}, {where}"

    def combined(self, ranks: Iterable[int]) -> int:
        """Return the digest over some events, as `calls.combined`."""
        return combined(
            (
                self.position(rank),
                self.versions[rank],
                self.times[rank],
                self.digests[rank],
                self.streams[rank],
            )
            for rank in ranks
        )

    def matching(self, filter: EventFilter | None, after: int, until: int) -> Iterator[int]:
        """Return the ranks from ``after`` (inclusive) to ``until`` that a filter selects.

        It looks through the shortest list of events with a tag or type of the filter.
        """
        if filter is None or not filter.items:
            return iter(range(after, until))
        found = [self._of_item(item, after, until) for item in filter.items]
        if len(found) == 1:
            return found[0]
        return iter(sorted({rank for ranks in found for rank in ranks}))

    def _of_item(self, item: FilterItem, after: int, until: int) -> Iterator[int]:
        if not item.tags and not item.types:
            return iter(range(after, until))
        lists = [[self._tagged(tag)] for tag in item.tags]
        if item.types:
            lists.append([self._typed(type) for type in set(item.types)])
        ranges = [
            [(ranks, bisect_left(ranks, after), bisect_left(ranks, until)) for ranks in several]
            for several in lists
        ]
        least = min(ranges, key=lambda several: sum(end - start for _, start, end in several))
        only = EventFilter((item,))
        candidates = (ranks[place] for ranks, start, end in least for place in range(start, end))
        ordered = sorted(candidates) if len(least) > 1 else candidates
        return (rank for rank in ordered if only.matches(self.types[rank], self.tags[rank]))

    def _tagged(self, tag: str) -> "array[int]":
        if self._by_tag is None:
            lists: dict[str, array[int]] = defaultdict(lambda: array("q"))
            for rank, tags in enumerate(self.tags):
                for each in set(tags):
                    lists[each].append(rank)
            self._by_tag = dict(lists)
        return self._by_tag.get(tag, _NONE)

    def _typed(self, type: str) -> "array[int]":
        if self._by_type is None:
            lists: dict[str, array[int]] = defaultdict(lambda: array("q"))
            for rank, each in enumerate(self.types):
                lists[each].append(rank)
            self._by_type = dict(lists)
        return self._by_type.get(type, _NONE)


def count_until(ranks: Sequence[int], prefix: int) -> int:
    """Return how many of some ranks are in a prefix."""
    return bisect_right(ranks, prefix - 1)
