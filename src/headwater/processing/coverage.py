"""Whether tracking tokens have reached a consistency token: the one question of a waiting query."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from headwater.errors import TokenMismatch
from headwater.messages import ConsistencyToken, SourceState
from headwater.processing.bus_source import BusSource
from headwater.processing.sources import Source, StoreSource
from headwater.processing.tokens import Token


class Coverage(Protocol):
    """Compares the tokens of all segments with a consistency token.

    ``pure``: the tokens alone say everything, there is never anything to `look` for.
    """

    pure: bool

    def covers(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> bool:
        """Whether everything up to the token was handled; without I/O.

        Raises:
            TokenMismatch: the token is of another epoch.
        """

    async def look(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> None:
        """Find out more, for a token that is not covered yet."""

    def gap(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> tuple[int, int]:
        """Return how far the first source that is behind has come, and how far it should be."""


def coverage_of(source: Source) -> Coverage:
    """Return the coverage for a source."""
    return BusCoverage(source) if isinstance(source, BusSource) else StoreCoverage(source)


def _target(state: SourceState) -> int:
    return max(state.shards.values(), default=0)


class StoreCoverage:
    """For a store: the segment that is furthest behind decides."""

    pure = True

    def __init__(self, source: Source) -> None:
        """Compare for a store."""
        self._source = source

    def covers(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> bool:
        """See `Coverage.covers`."""
        position, target = self.gap(tokens, wanted)
        return position >= target

    async def look(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> None:
        """See `Coverage.look`: the tokens say everything."""

    def gap(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> tuple[int, int]:
        """See `Coverage.gap`."""
        assert isinstance(self._source, StoreSource)
        name, epoch = self._source.name, self._source.store.epoch
        state = wanted.sources.get(name)
        if state is None:
            return 0, 0
        if state.epoch != epoch:
            raise TokenMismatch(source=name, expected=epoch, actual=state.epoch)
        return min((token.position(name) for token in tokens.values()), default=0), _target(state)


class BusCoverage:
    """For a bus, whose partitions say nothing of one another.

    Who has seen position p of a source in any partition knows that all up to p are on the bus,
    because a relay publishes in order. So when a position at or after the wanted one was seen,
    the ends of all partitions are noted, and when all of them are reached, it is covered.
    """

    pure = False

    def __init__(self, source: BusSource) -> None:
        """Compare for a bus."""
        self._source = source
        self._covered: dict[tuple[str, str], int] = {}
        self._noted: dict[tuple[str, str], tuple[int, dict[int, int]]] = {}

    def covers(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> bool:
        """See `Coverage.covers`."""
        return all(self._covers(tokens, name, state) for name, state in self._followed(wanted))

    async def look(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> None:
        """See `Coverage.look`."""
        for name, state in self._followed(wanted):
            seen, target = self._seen(tokens, name, state.epoch), _target(state)
            noted, _ = self._noted.get((name, state.epoch), (0, {}))
            if seen >= target > noted:
                self._noted[name, state.epoch] = (seen, await self._source.bus.end())

    def gap(self, tokens: Mapping[int, Token], wanted: ConsistencyToken) -> tuple[int, int]:
        """See `Coverage.gap`."""
        for name, state in self._followed(wanted):
            if not self._covers(tokens, name, state):
                return self._seen(tokens, name, state.epoch), _target(state)
        return 0, 0

    def _followed(self, wanted: ConsistencyToken) -> Iterator[tuple[str, SourceState]]:
        for name, state in wanted.sources.items():
            if self._source.sources is None or name in self._source.sources:
                yield name, state

    def _covers(self, tokens: Mapping[int, Token], name: str, state: SourceState) -> bool:
        key, target = (name, state.epoch), _target(state)
        if self._covered.get(key, 0) >= target:
            return True
        self._check_epoch(tokens, name, state.epoch)
        position, ends = self._noted.get(key, (0, {}))
        if position >= target and _reached(tokens, ends):
            self._covered[key] = position
            return True
        return False

    def _check_epoch(self, tokens: Mapping[int, Token], name: str, epoch: str) -> None:
        marks = [m for t in tokens.values() for m in t.positions.get(name, {}).values()]
        if marks and all(mark[0] != epoch for mark in marks):
            raise TokenMismatch(source=name, expected=marks[-1][0], actual=epoch)

    def _seen(self, tokens: Mapping[int, Token], name: str, epoch: str) -> int:
        marks = (m for t in tokens.values() for m in t.positions.get(name, {}).values())
        return max((position for e, position in marks if e == epoch), default=0)


def _reached(tokens: Mapping[int, Token], ends: Mapping[int, int]) -> bool:
    return all(
        offset >= ends.get(partition, -1)
        for token in tokens.values()
        for partition, offset in token.offsets.items()
    )
