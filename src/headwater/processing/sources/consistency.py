"""Whether tracking tokens have reached a consistency token: the one question of a waiting query."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from headwater.errors import MalformedMessage, TokenMismatch
from headwater.messages import ConsistencyToken
from headwater.processing.sources.bus import BusSource
from headwater.processing.sources.nothing import Nothing
from headwater.processing.sources.source import Source
from headwater.processing.sources.store import StoreSource
from headwater.processing.sources.tokens import Token, log_name


class Followed(NamedTuple):
    """A place that a consistency token names, in a log that is followed."""

    log: str
    epoch: str
    shard: int
    position: int


def followed(source: Source, wanted: ConsistencyToken) -> Iterator[Followed]:
    """Yield the places of a token that are in logs of a source; what else it names is ignored."""
    if isinstance(source, Nothing):
        return
    for name, state in wanted.sources.items():
        if isinstance(source, StoreSource):
            follows = name == source.name
        else:
            assert isinstance(source, BusSource)
            follows = source.sources is None or name in source.sources
        if follows:
            for shard, position in state.shards.items():
                yield Followed(log_name(name, shard), state.epoch, shard, position)


class Consistency(Protocol):
    """Compares the tokens of all segments with a consistency token.

    ``pure``: the tokens alone say everything, there is never anything to `look` for.
    """

    pure: bool

    def covers(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> bool:
        """Whether everything up to the token was handled; without I/O.

        Raises:
            TokenMismatch: the token is of another epoch.
            MalformedMessage: it names a shard that there is not.
        """

    async def look(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> None:
        """Find out more, for a token that is not covered yet."""

    def gap(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> tuple[int, int]:
        """Return how far the first source that is behind has come, and how far it should be."""


def consistency_of(source: Source) -> Consistency:
    """Return the consistency for a source."""
    if isinstance(source, Nothing):
        return _AlwaysConsistent()
    return BusConsistency(source) if isinstance(source, BusSource) else StoreConsistency(source)


class _AlwaysConsistent:
    """For who follows no events: nothing is missing."""

    pure = True

    def covers(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> bool:  # noqa: ARG002
        """See `Consistency.covers`."""
        return True

    async def look(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> None:
        """See `Consistency.look`."""

    def gap(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> tuple[int, int]:  # noqa: ARG002
        """See `Consistency.gap`."""
        return 0, 0


class StoreConsistency:
    """For a store: the segment that is furthest behind decides, in each shard."""

    pure = True

    def __init__(self, source: Source) -> None:
        """Compare for a store."""
        assert isinstance(source, StoreSource)
        self._name, self._store = source.name, source.store
        self._shards = len(source.store.shards)

    def covers(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> bool:
        """See `Consistency.covers`."""
        position, target = self.gap(tokens, wanted)
        return position >= target

    async def look(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> None:
        """See `Consistency.look`: the tokens say everything."""

    def gap(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> tuple[int, int]:
        """See `Consistency.gap`."""
        name, epoch = self._name, self._store.epoch
        state = wanted.sources.get(name)
        if state is None:
            return 0, 0
        if state.epoch != epoch:
            raise TokenMismatch(source=name, expected=epoch, actual=state.epoch)
        for shard, target in state.shards.items():
            if not 0 <= shard < self._shards:
                reason = f"it names shard {shard} of {name!r}, which has {self._shards}"
                raise MalformedMessage(name="consistency token", reason=reason)
            places = [token.position_in(name, epoch, shard) for token in tokens.values()]
            if (position := min(places, default=0)) < target:
                return position, target
        return 0, 0


class BusConsistency:
    """For a bus, whose partitions say nothing of one another.

    Events say up to which position their source is confirmed, that is on the bus as a whole. So
    when that is at or after the wanted one, the ends of all partitions are noted, and when all of
    them are reached, it is covered. Some say the ends, too; then nobody is asked for them.
    """

    pure = False

    def __init__(self, source: BusSource) -> None:
        """Compare for a bus."""
        self._source = source
        self._covered: dict[tuple[str, str], int] = {}
        self._noted: dict[tuple[str, str], tuple[int, dict[int, int]]] = {}

    def covers(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> bool:
        """See `Consistency.covers`."""
        places = followed(self._source, wanted)
        return all(self._covers(tokens, p.log, p.epoch, p.position) for p in places)

    async def look(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> None:
        """See `Consistency.look`."""
        for log, epoch, _, target in followed(self._source, wanted):
            confirmed = _confirmed(tokens, log, epoch)
            noted, _ = self._noted.get((log, epoch), (0, {}))
            if confirmed >= target > noted and not self._comes(tokens, (log, epoch), target):
                self._noted[log, epoch] = (confirmed, await self._source.bus.end())

    def _comes(self, tokens: Mapping[int, Token], origin: tuple[str, str], target: int) -> bool:
        """Whether the ends that were said will be reached, as something was seen before each."""
        position, ends = self._source.ends.get(origin, (0, ()))
        return position >= target and all(seen for seen, _ in _places(tokens, origin, ends))

    def gap(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> tuple[int, int]:
        """See `Consistency.gap`."""
        for log, epoch, _, target in followed(self._source, wanted):
            if not self._covers(tokens, log, epoch, target):
                return _confirmed(tokens, log, epoch), target
        return 0, 0

    def _covers(self, tokens: Mapping[int, Token], name: str, epoch: str, target: int) -> bool:
        key = (name, epoch)
        if self._covered.get(key, 0) >= target:
            return True
        self._check_epoch(tokens, name, epoch)
        position, said = self._source.ends.get(key, (0, ()))
        if position >= target and all(n >= end for n, end in _places(tokens, key, said)):
            self._covered[key] = position
            return True
        position, ends = self._noted.get(key, (0, {}))
        if position >= target and _reached(tokens, ends):
            self._covered[key] = position
            return True
        return False

    def _check_epoch(self, tokens: Mapping[int, Token], name: str, epoch: str) -> None:
        places = [p for t in tokens.values() for p in t.positions.get(name, {}).values()]
        if places and all(place[0] != epoch for place in places):
            raise TokenMismatch(source=name, expected=places[-1][0], actual=epoch)


def _confirmed(tokens: Mapping[int, Token], name: str, epoch: str) -> int:
    """Return up to where a source is known to be on the bus."""
    known = (t.confirmed[name] for t in tokens.values() if name in t.confirmed)
    return max((position for e, position in known if e == epoch), default=0)


def _places(
    tokens: Mapping[int, Token], origin: tuple[str, str], ends: tuple[int, ...]
) -> Iterator[tuple[int, int]]:
    """Yield which position was handled (0: none), and which one is the end, if there is one."""
    source, epoch = origin
    for token in tokens.values():
        places = token.positions.get(source, {})
        for partition in token.offsets:
            if partition < len(ends) and ends[partition]:
                seen, position = places.get(partition, (epoch, 0))
                yield position if seen == epoch else 0, ends[partition]


def _reached(tokens: Mapping[int, Token], ends: Mapping[int, int]) -> bool:
    return all(
        offset >= ends.get(partition, -1)
        for token in tokens.values()
        for partition, offset in token.offsets.items()
    )
