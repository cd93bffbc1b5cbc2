"""Tokens, and what the two sources make of them."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headwater.eventbus import BusEvent
from headwater.eventbus.memory import MemoryEventBus
from headwater.processing import BusSource
from headwater.processing.running.claims import Claims, ProcessorMember
from headwater.processing.settings import DEFAULTS
from headwater.processing.sources.source import SourcePage
from headwater.processing.sources.tokens import Token, store_token, token_of
from headwater.views.memory import MemoryViewStore

names = st.text(min_size=1, max_size=5)
tokens = st.builds(
    Token,
    positions=st.dictionaries(
        names, st.dictionaries(st.integers(0, 7), st.tuples(names, st.integers(0, 99)))
    ),
    offsets=st.dictionaries(st.integers(0, 7), st.integers(-1, 99)),
    since=st.integers(0, 99),
    successor=st.integers(0, 9),
    parked=st.integers(0, 9),
)


@given(tokens)
def test_a_token_survives_storing(token: Token) -> None:
    """What is stored is what comes back."""
    assert token_of(token.text) == token


@given(tokens, st.integers(1, 8))
def test_parts_of_a_bus_token_join_to_the_whole(token: Token, count: int) -> None:
    """Dividing a token over segments and joining the parts loses nothing, in any order."""
    source = BusSource(MemoryEventBus(partitions=8))
    whole = source.restrict(token, range(count), count)
    joined = source.restrict(token, {0}, count)
    for index in range(1, count):
        part = source.join(joined, source.restrict(token, {index}, count))
        assert part is not None
        joined = part
    assert joined.offsets == whole.offsets
    for name, marks in whole.positions.items():
        assert joined.positions.get(name, {}) == marks


async def test_whole_tokens_join_only_at_the_same_place() -> None:
    """Where every segment reads everything, groups join when they are equally far."""
    source = BusSource(MemoryEventBus(partitions=2)).whole()
    at = await source.begin()
    assert source.join(at, at) == at
    assert source.join(at, Token(offsets={0: 3, 1: -1})) is None


def test_segments_of_a_bus_follow_its_partitions() -> None:
    """Events of one partition belong to one segment."""
    event = BusEvent("s", "e", 1, "a", 1, "T", 1, 0, (), b"{}", b"{}")
    source = BusSource(MemoryEventBus(partitions=8))
    page = SourcePage([event] * 3, Token(), [0, 5, 7])
    assert source.segments_of(page, 4) == [0, 1, 3]
    assert source.sequence_of(event) == "s:a"
    assert BusSource(MemoryEventBus(partitions=2)).split(4) == 2


def test_a_store_token_names_its_source() -> None:
    """The position of a source that was never seen is 0."""
    token = store_token("accounts", "epoch", 7)
    assert (token.position("accounts"), token.position("other")) == (7, 0)


@given(st.integers(1, 20), st.lists(st.integers(0, 20), min_size=1, max_size=6))
def test_shares_are_fair_and_add_up(count: int, holdings: list[int]) -> None:
    """The targets of all owners add up to the segments and differ by at most one."""
    owners = {f"o{number}": held for number, held in enumerate(holdings)}
    targets = []
    for owner in owners:
        claims = Claims(
            "p", BusSource(MemoryEventBus()), MemoryViewStore(), owner=owner, settings=DEFAULTS
        )
        claims.count = count
        targets.append(claims._target(owners))
    assert sum(targets) == count
    assert max(targets) - min(targets) <= 1


async def test_a_lease_that_ends_during_a_look() -> None:
    """When a lease ends while others are claimed the next look is soon, not a turn later."""
    time_s = 0.0
    views = MemoryViewStore(clock=lambda: time_s)
    settings = msgspec.structs.replace(DEFAULTS, lease_s=3.0, renew_s=30.0)
    heir = Claims("p", BusSource(MemoryEventBus()), views, owner="heir", settings=settings)
    await views.ensure([ProcessorMember])
    await heir.open(1, 2)
    for number, segment in enumerate(await views.segments("p")):
        time_s = float(number)
        await views.claim(segment, owner="dead", lease_s=3.0)
    time_s = 3.5
    await heir.share(await views.segments("p"))
    assert (len(heir.held), heir.satisfied) == (1, True)
    assert 0 < heir.pause_s <= 0.5
    time_s = 4.5
    await heir.clock.look()
    assert heir.pause_s == 3.0
    await heir.share(await views.segments("p"))
    assert len(heir.held) == 2


async def test_members_that_are_gone_are_forgotten() -> None:
    """Who announces itself removes those that were not heard of again, also of wrong clocks."""
    views = MemoryViewStore(clock=lambda: 100.0)
    await views.ensure([ProcessorMember])
    source = BusSource(MemoryEventBus())
    holder, waiting = (
        Claims("p", source, views, owner=owner, settings=DEFAULTS) for owner in ("a", "b")
    )
    await holder.open(1, 1)
    await holder.share(await views.segments("p"))
    async with views.transaction() as transaction:
        for owner, until in (("dead", 99.0), ("ahead", 1e9), ("alive", 101.0)):
            member = ProcessorMember(f"p@1/{owner}", "p@1", owner, until)
            await transaction.save([member])
    await waiting.open(1, 1)
    await waiting.share(await views.segments("p"))
    left = (await views.find(ProcessorMember)).items
    assert sorted(member.owner for member in left) == ["alive", "b"]
