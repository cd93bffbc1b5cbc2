"""Split and merge: what the segments of a processor know when their number changes.

Streams belong to segment ``hash % count``, so with another count a segment takes over streams
from some of the former ones, which need not be equally far. It begins where the one that is
furthest behind was, and its token says which shares are further (`Ahead`): their events are
passed over until the token has reached them. Thus nothing is handled twice or left out, nobody
waits for anybody, and any number of segments can become any other.
"""

from collections.abc import Iterable, Sequence
from math import gcd

import msgspec

from headwater.processing.handling.applier import Applier
from headwater.processing.sources.source import Source, SourcePage
from headwater.processing.sources.tokens import Ahead, Token, token_of
from headwater.views import Segment

SEGMENTS_MAX = 1024


def resized(source: Source, segments: Sequence[Segment], count: int) -> list[Segment]:
    """Return the segments to put in the place of all those of a generation.

    A claim goes on in its owner's name, so that nobody else takes the work meanwhile.
    """
    before = len(segments)
    known = [source.restrict(token_of(s.token), {s.index}, before) for s in segments]
    common = gcd(before, count)  # streams of both n and m: only if n = m modulo this
    made = []
    for index in range(count):
        parents = range(index % common, before, common)
        token = _merged(source, {n: known[n] for n in parents}, before)
        heirs = [n for n in parents if segments[n].owner] or parents
        heir = segments[heirs[index // common % len(heirs)]]
        made.append(
            msgspec.structs.replace(
                heir, index=index, count=count, token=source.restrict(token, {index}, count).text
            )
        )
    return made


def _merged(source: Source, tokens: dict[int, Token], count: int) -> Token:
    least = source.least([_bare(token) for token in tokens.values()])
    facts = [fact for token in tokens.values() for fact in token.ahead]
    facts += [Ahead(count, (n,), _bare(token)) for n, token in tokens.items()]
    parked = max(token.parked for token in tokens.values())
    replay = next((token.replay for token in tokens.values() if token.replay), None)
    return msgspec.structs.replace(
        least, ahead=_left(source, least, facts), parked=parked, replay=replay
    )


def joined(source: Source, left: Token, right: Token) -> Token | None:
    """Return the token of two groups as one; None when they are not equally far."""
    token = source.join(left, right)
    if token is None:
        return None
    if left.parked or right.parked:
        token = msgspec.structs.replace(token, parked=max(left.parked, right.parked))
    if token.replay != (replay := left.replay or right.replay):
        token = msgspec.structs.replace(token, replay=replay)
    if not (left.ahead or right.ahead):
        return token
    return msgspec.structs.replace(token, ahead=_left(source, token, left.ahead + right.ahead))


def moved(source: Source, before: Token, now: Token) -> Token:
    """Return a token that has moved on, with what is still known of letters and shares ahead."""
    if now.parked != before.parked:
        now = msgspec.structs.replace(now, parked=before.parked)
    if before.replay or now.replay:
        over = before.replay is None or source.reached(now, before.replay)
        now = msgspec.structs.replace(now, replay=None if over else before.replay)
    if not (before.ahead or now.ahead):
        return now
    return msgspec.structs.replace(now, ahead=_left(source, _bare(now), before.ahead))


def passed(applier: Applier, page: SourcePage, token: Token) -> Sequence[bool]:
    """Return for each event of a page whether a share ahead of the token has handled it."""
    found = [False] * len(page.events)
    for fact in token.ahead:
        indices = frozenset(fact.indices)
        done = applier.source.passed(page, fact.token)
        owners = applier.segments_of(page, fact.count)
        for n, owner in enumerate(owners):
            found[n] = found[n] or (done[n] and owner in indices)
    return found


def _left(source: Source, token: Token, facts: Iterable[Ahead]) -> tuple[Ahead, ...]:
    """Return what a token has not reached yet; shares that are equally far as one."""
    groups: dict[tuple[int, str], tuple[Token, set[int]]] = {}
    for fact in facts:
        if not source.reached(token, fact.token):
            key = (fact.count, fact.token.text)
            groups.setdefault(key, (fact.token, set()))[1].update(fact.indices)
    return tuple(
        Ahead(count, tuple(sorted(indices)), reached)
        for (count, _), (reached, indices) in sorted(groups.items(), key=lambda group: group[0])
    )


def _bare(token: Token) -> Token:
    if not (token.ahead or token.parked or token.replay):
        return token
    return msgspec.structs.replace(token, ahead=(), parked=0, replay=None)
