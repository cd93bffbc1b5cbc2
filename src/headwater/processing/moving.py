"""From one event bus to another: who has read all of the former one goes on, and repeats nothing.

The partition of a stream depends on how many partitions there are, so a bus cannot get more of them
while it is read: of the events of a stream later ones could overtake earlier ones. Instead all
stores are published again on another bus. What was handled is known by the positions in the stores,
which are the same on every bus; only by which partition they are noted changes.
"""

from collections.abc import Sequence

import msgspec

from headwater.errors import InvalidInput
from headwater.processing.sources.bus import BusSource
from headwater.processing.sources.tokens import Token, token_of
from headwater.views import Segment, ViewStore


async def move_processor(
    name: str, views: ViewStore, *, former: BusSource, following: BusSource
) -> int:
    """Let a processor, whom nobody runs, go on on another bus; return how many segments it has.

    It reads that one from its first event on, and passes over what it has handled. All its
    generations move; twice is once more, as long as it was not started in between.

    Atomicity: one transaction.

    Raises:
        InvalidInput: somebody works on it, it has not read all of the former bus, it has more
            segments than the other one has partitions, or is being switched over to a rebuilt one.
        StoreUnavailable: a bus or the view store is away.
    """
    head, begin, now = await former.head(), await following.begin(), await views.now()
    generations = sorted({one.generation for one in await views.segments(name)})
    count = 0
    async with views.transaction() as transaction:
        for generation in generations:
            mine = await transaction.segments(name, generation=generation)
            _check(name, mine, now=now, most=following.split(max(1, len(mine))))
            tokens = [former.restrict(token_of(one.token), {one.index}, one.count) for one in mine]
            if not all(former.reached(token, head) for token in tokens):
                raise InvalidInput(
                    reason=f"{name} has not read all of the former bus (generation {generation}): "
                    "start it there, without traffic, until nothing is left to read"
                )
            token = _carried(name, tokens, former.least(tokens), begin)
            await transaction.replace_segments([_at(one, token) for one in mine])
            count += len(mine)
    return count


async def move_relay(name: str, views: ViewStore) -> None:
    """Let a relay, which nobody runs, publish its store from the first event on.

    Raises:
        InvalidInput: somebody works on it.
        StoreUnavailable: the view store is away.
    """
    now = await views.now()
    generations = sorted({one.generation for one in await views.segments(name)})
    async with views.transaction() as transaction:
        for generation in generations:
            mine = await transaction.segments(name, generation=generation)
            _check(name, mine, now=now, most=1)
            await transaction.replace_segments([_at(one, Token()) for one in mine])


def _at(segment: Segment, token: Token) -> Segment:
    return msgspec.structs.replace(segment, token=token.text, owner="", lease_until=0.0)


def _check(name: str, segments: Sequence[Segment], *, now: float, most: int) -> None:
    held = sorted({one.owner for one in segments if one.is_held(now)})
    if held:
        raise InvalidInput(reason=f"{name} is at work at {', '.join(held)}: stop it before")
    count = max((one.count for one in segments), default=0)
    if count > most:
        raise InvalidInput(
            reason=f"{name} has {count} segments, at most {most} are possible there: "
            f"headwater processors resize {name} {most}, on the former bus"
        )


def _carried(name: str, every: Sequence[Token], joined: Token, begin: Token) -> Token:
    """Return a token at the begin of another bus that knows what was handled."""
    if any(token.successor for token in every):
        raise InvalidInput(
            reason=f"{name} is being switched over to a rebuilt one: move it when that is done"
        )
    positions: dict[str, dict[int, tuple[str, int]]] = {}
    for source in {source for token in every for source in token.positions}:
        places = [place for token in every for place in token.positions.get(source, {}).values()]
        epochs = sorted({epoch for epoch, _ in places if epoch})  # others publish from elsewhere
        if len(epochs) > 1:
            raise InvalidInput(
                reason=f"{name} has events of {source} of several epochs, {', '.join(epochs)}, and "
                "one of them alone is on the other bus: replay it there"
            )
        if epochs:
            last = max(position for epoch, position in places if epoch)
            positions[source] = dict.fromkeys(begin.offsets, (epochs[0], last))
    parked = max(token.parked for token in every)
    return Token(
        offsets=begin.offsets, positions=positions, confirmed=joined.confirmed, parked=parked
    )


__all__ = ["move_processor", "move_relay"]
