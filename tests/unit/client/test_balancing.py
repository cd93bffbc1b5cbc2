"""Choosing an instance: rendezvous hashing, load, zones."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headwater.client.instances import Group, Target, ranking
from headwater.discovery import Instance


def instance(name: str, **options: object) -> Instance:
    return Instance(service="shop", id=name, host="127.0.0.1", port=1, **options)


def target(name: str, **options: object) -> Target:
    return Target(instance(name, **options), f"http://{name}")


def group(*instances: Instance, **options: object) -> Group:
    made = Group(lambda: instances, lambda one: Target(one, one.url), **options)
    made.refresh()
    return made


def home(key: str, targets: list[Target]) -> str:
    return ranking(key, targets)[0].id


@given(st.sets(st.text(min_size=1), min_size=2, max_size=8), st.data())
def test_only_its_own_keys_move(names: set[str], data: st.DataObject) -> None:
    """Removing one of n instances moves the keys it had, and no others."""
    targets = [target(name) for name in sorted(names)]
    gone = data.draw(st.sampled_from(targets))
    left = [t for t in targets if t is not gone]
    for key in map(str, range(50)):
        if home(key, targets) != gone.id:
            assert home(key, left) == home(key, targets)


def test_order_does_not_matter() -> None:
    """Every process comes to the same order, however it learned of the instances."""
    targets = [target(name) for name in "abcdef"]
    shuffled = random.Random(1).sample(targets, 6)
    for key in map(str, range(50)):
        assert [t.id for t in ranking(key, targets)] == [t.id for t in ranking(key, shuffled)]


def test_weights() -> None:
    """An instance gets keys in proportion to its weight."""
    targets = [target("a", weight=1), target("b", weight=1), target("c", weight=2)]
    homes = Counter(home(f"key-{n}", targets) for n in range(8000))
    assert 1800 < homes["a"] < 2200
    assert 1800 < homes["b"] < 2200
    assert 3600 < homes["c"] < 4400


def test_rendezvous_is_the_same_in_every_release() -> None:
    """The order of a key is fixed: processes of different versions share the instances."""
    targets = [target(name) for name in "abcd"]
    assert "".join(t.id for t in ranking("customer-7", targets)) == "dbca"


def test_less_busy() -> None:
    """Of two drawn at random the less busy one is chosen, so of two in all always that one."""
    two = group(instance("a"), instance("b"))
    busy, idle = two.targets
    busy.begin()
    assert {two.pick() for _ in range(50)} == {idle}


def test_spread() -> None:
    """Idle instances are chosen about equally often."""
    many = group(*(instance(name) for name in "abcde"), random=random.Random(1).random)
    chosen = Counter(found.id for _ in range(5000) if (found := many.pick()) is not None)
    assert set(chosen) == set("abcde")
    assert all(850 < count < 1150 for count in chosen.values())


def test_weighted_load() -> None:
    """Load is seen relative to weight."""
    two = group(instance("light", weight=1), instance("heavy", weight=4))
    light, heavy = two.targets
    for _ in range(2):
        heavy.begin()
    assert {two.pick() for _ in range(50)} == {heavy}
    for _ in range(3):
        heavy.begin()
    assert {two.pick() for _ in range(50)} == {light}


def test_zone() -> None:
    """Instances of the own zone are preferred, and others used when those are not usable."""
    zoned = group(
        instance("near", zone="north"), instance("far", zone="south"), zone="north", limit=1
    )
    near, far = zoned.targets
    assert {zoned.pick() for _ in range(20)} == {near}
    near.begin()
    assert zoned.pick() is far
    far.begin()
    assert zoned.pick() is None


def test_unknown_zone() -> None:
    """Without any instance in the own zone all are near."""
    foreign = group(instance("a", zone="x"), instance("b", zone="y"), zone="z")
    assert {foreign.pick() for _ in range(50)} == set(foreign.targets)


def test_ejected_home() -> None:
    """While a key's instance is ejected the key goes to the next in its order, then back."""
    three = group(*(instance(name) for name in "abc"))
    first, second, _ = ranking("k", three.targets)
    assert three.pick(key="k") is first
    first.failed(0.0, eject_after=1)
    first.ejected_until = float("inf")
    assert three.pick(key="k") is second
    first.succeeded()
    assert three.pick(key="k") is first


def test_ejection_doubles() -> None:
    """Each failed probe doubles the time of the ejection, up to ten seconds."""
    one = target("a")
    now, times = 0.0, []
    for _ in range(7):
        one.failed(now, eject_after=1)
        times.append(one.ejected_until - now)
        now = one.ejected_until
    assert times == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_half_open() -> None:
    """After the ejection one probe at a time is let through."""
    one = target("a")
    one.failed(0.0, eject_after=1)
    assert not one.usable(0.4)
    assert one.usable(0.6)
    probe = one.begin()
    assert probe
    assert not one.usable(0.6)
    one.end(probe=probe)
    assert one.usable(0.6)


def test_stale_failures() -> None:
    """Calls from before the ejection that fail during it do not prolong it."""
    one = target("a")
    for now in (0.0, 0.1, 0.2):
        one.failed(now, eject_after=1)
    assert one.ejected_until == 0.5
