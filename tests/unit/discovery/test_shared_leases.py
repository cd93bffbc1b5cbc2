"""The rules between registries that share instances, on a clock that the test moves."""

from collections.abc import Callable

import msgspec
import pytest

from headwater.discovery import Record
from headwater.discovery.registry import Registry, Why
from tests.unit.discovery.test_registry import Clock, instance, pass_time

Told = list[tuple[str, Why, int]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> Registry:
    return Registry(clock=clock, wall=lambda: 1_000.0)


@pytest.fixture
def told(registry: Registry) -> Told:
    told: Told = []
    registry.share(lambda *change: told.append(change))
    return told


def elsewhere(id: str = "accounts-1", *, revision: int = 1, **fields: object) -> Record:
    """Return what another registry has stored about an instance with a lease of 9 seconds."""
    values = {"holder": "other", "revision": revision} | fields
    content = instance(id, lease_s=9, started=1)
    return msgspec.convert({"id": id, "instance": content, **values}, Record)


@pytest.fixture
def take(registry: Registry) -> Callable[[Record], None]:
    return lambda record: registry.take(record, server="me")


def test_what_others_hold_is_listed_and_never_expires_here(registry, clock, told, take):
    """An instance of another registry is listed; however long it is silent here, nothing ends."""
    take(elsewhere())
    pass_time(registry, clock, 100)
    assert registry.live("accounts")[0].id == "accounts-1"
    assert told == []
    assert registry.holders() == {"other"}


def test_renewals_are_not_told(registry, clock, told):
    """A renewal, and a registration that says the same, stay where they arrive."""
    registry.register(instance(lease_s=9))
    assert told == [("accounts-1", "request", 0)]
    for _ in range(5):
        pass_time(registry, clock, 3)
        registry.renew("accounts-1")
        registry.register(instance(lease_s=9))
    assert len(told) == 1


def test_doubt_comes_before_expiry(registry, clock, told):
    """After two thirds of a silent lease its holder doubts once, after all of it decides."""
    registry.register(instance(lease_s=9))
    registry.settle("accounts-1", 5)
    pass_time(registry, clock, 5.5)
    assert told[1:] == []
    pass_time(registry, clock, 1)
    assert told[1:] == [("accounts-1", "decision", 5)]
    assert registry.record("accounts-1", server="me").doubted
    assert registry.get("accounts-1").status == "UP"
    pass_time(registry, clock, 2.5)
    assert told[2:] == [("accounts-1", "expiry", 5)]
    record = registry.record("accounts-1", server="me")
    assert (record.expired, record.holder, record.instance.status) == (True, "me", "UP")
    pass_time(registry, clock, 30)
    assert told[3:] == [("accounts-1", "expiry", 5)]
    assert registry.record("accounts-1", server="me") == Record("accounts-1", None, "me")


def test_a_renewal_ends_doubt(registry, clock, told):
    """A doubted instance that is renewed has its whole lease, and is doubted again after it."""
    registry.register(instance(lease_s=9))
    pass_time(registry, clock, 7)
    registry.renew("accounts-1")
    pass_time(registry, clock, 5.5)
    assert [why for _, why, _ in told] == ["request", "decision"]
    pass_time(registry, clock, 1)
    assert [why for _, why, _ in told] == ["request", "decision", "decision"]


@pytest.mark.parametrize("state", [{"doubted": True}, {"expired": True}])
def test_who_hears_of_it_takes_over(registry, clock, told, take, state):
    """What another doubts or gives up, but was renewed here, is held here and stays live."""
    take(elsewhere())
    registry.renew("accounts-1")
    pass_time(registry, clock, 5)
    take(elsewhere(revision=2, **state))
    assert told == [("accounts-1", "decision", 2)]
    record = registry.record("accounts-1", server="me")
    assert (record.holder, record.doubted, record.expired) == ("me", False, False)
    assert registry.get("accounts-1").status == "UP"
    pass_time(registry, clock, 4)
    assert registry.get("accounts-1").status == "DOWN"  # nine seconds after it was heard of


@pytest.mark.parametrize("heard", [False, True])
def test_who_has_doubts_itself_does_not_take_over(registry, clock, told, take, heard):
    """An instance that is as silent here stays with its holder: doubts do not go in circles."""
    take(elsewhere())
    if heard:
        registry.renew("accounts-1")
    pass_time(registry, clock, 6.5)
    take(elsewhere(revision=2, doubted=True))
    assert told == []
    take(elsewhere(revision=3, expired=True))
    assert told == []
    assert registry.get("accounts-1").status == "DOWN"


def test_a_registry_that_is_gone_leaves_its_instances_a_full_lease(registry, clock, told, take):
    """What is taken over has a full lease; what was expired is removed in its time."""
    take(elsewhere("a"))
    take(elsewhere("b", expired=True))
    take(elsewhere("c", holder="alive"))
    pass_time(registry, clock, 20)
    assert registry.take_over({"other"}) == 2
    assert told == [("a", "decision", 1), ("b", "decision", 1)]
    assert registry.holders() == {"alive"}
    pass_time(registry, clock, 8.5)
    assert [i.id for i in registry.live("accounts")] == ["a", "c"]
    pass_time(registry, clock, 0.5)
    assert [i.id for i in registry.live("accounts")] == ["c"]
    pass_time(registry, clock, 30)
    assert [i.id for i in registry.all()] == ["c"]


def test_a_lost_decision_is_taken_back(registry, clock, told, take):
    """When another registry was first to hold an instance, its word counts."""
    registry.register(instance(lease_s=9, started=1))
    registry.settle("accounts-1", 1)
    pass_time(registry, clock, 10)
    assert registry.get("accounts-1").status == "DOWN"
    take(elsewhere(revision=2))
    assert registry.get("accounts-1").status == "UP"
    pass_time(registry, clock, 100)
    assert registry.get("accounts-1").status == "UP"


def test_what_is_older_than_known_is_passed_over(registry, told, take):
    """A record that is not newer than what was stored from here changes nothing."""
    registry.register(instance(version="2"))
    registry.settle("accounts-1", 7)
    take(elsewhere(revision=7))
    assert registry.get("accounts-1").version == "2"


def test_removal_elsewhere(registry, told, take):
    """What others removed is removed here; its next renewal asks for a registration."""
    take(elsewhere())
    take(Record("accounts-1", None, "other", revision=2))
    take(Record("unknown", None, "other", revision=3))
    assert registry.all() == []
    assert told == []


def test_alone_a_registry_holds_what_it_hears_of(registry, clock, told, take):
    """While others are out of reach, what is renewed here is held; the rest stays as it was."""
    take(elsewhere("a"))
    take(elsewhere("b"))
    registry.apart = True
    registry.renew("a")
    assert told == [("a", "decision", 1)]
    pass_time(registry, clock, 10)
    assert [i.id for i in registry.live("accounts")] == ["b"]


def test_renewal_of_what_others_gave_up_revives(registry, clock, told, take):
    """An expired instance of another registry is live again, and held, when it is renewed here."""
    take(elsewhere(expired=True))
    assert registry.renew("accounts-1").status == "UP"
    assert told == [("accounts-1", "request", 1)]
    assert registry.holders() == set()


def test_an_override_of_what_others_hold(registry, told, take):
    """An operator may speak to any registry: the holder stays."""
    take(elsewhere())
    assert registry.override("accounts-1", "OUT_OF_SERVICE").status == "OUT_OF_SERVICE"
    assert told == [("accounts-1", "override", 1)]
    record = registry.record("accounts-1", server="me")
    assert (record.holder, record.override) == ("other", "OUT_OF_SERVICE")


def test_a_store_that_lost_everything_is_told_again(registry, clock, told, take):
    """Everything known is held and told again, with a full lease for what others held."""
    take(elsewhere("a", revision=50))
    registry.register(instance("b"))
    pass_time(registry, clock, 5)
    told.clear()
    registry.store_again()
    assert told == [(id, why, 0) for id in "ab" for why in ("request", "override")]
    assert registry.holders() == set()
    pass_time(registry, clock, 8.5)
    assert [i.id for i in registry.live("accounts")] == ["a"]
