"""The registry's rules, on a clock that the test moves."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headwater.discovery import Instance, RouteInfo
from headwater.discovery.registry import Change, Registry
from headwater.errors import AddressTaken, InstanceNotFound, MalformedMessage


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def instance(id: str = "accounts-1", **fields: Any) -> Instance:
    port = 8001 + sum(map(ord, id))
    values = {"service": "accounts", "host": "127.0.0.1", "port": port} | fields
    return Instance(id=id, **values)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> Registry:
    return Registry(clock=clock, wall=lambda: 1_000.0)


def pass_time(registry: Registry, clock: Clock, seconds: float) -> None:
    """Let time pass while the registry is watching."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now = min(end, clock.now + 0.5)
        registry.expire()


def test_register_lists_the_instance(registry: Registry) -> None:
    """A registered instance is listed with the time and revision of its registration."""
    before = registry.revision
    listed = registry.register(instance())
    assert listed == instance(started=1_000_000_000, revision=before + 1, since=before + 1)
    assert registry.services() == {"accounts": (listed,)}
    assert registry.live("accounts") == (listed,)


def test_roles(registry: Registry) -> None:
    """Who asks for a role gets those of that role and those of role all."""
    for role in ("command", "query", "all"):
        registry.register(instance(role, role=role))
    assert [i.id for i in registry.live("accounts", "query")] == ["all", "query"]
    assert [i.id for i in registry.live("accounts")] == ["all", "command", "query"]
    assert registry.live("nobody") == ()


def test_identical_registration_is_a_renewal(registry: Registry, clock: Clock) -> None:
    """Registering the same again changes no revision but extends the lease."""
    listed = registry.register(instance())
    pass_time(registry, clock, 9)
    assert registry.register(instance()) == listed
    pass_time(registry, clock, 9)
    assert registry.live("accounts") == (listed,)


def test_expiry_marks_down_then_removes(registry: Registry, clock: Clock) -> None:
    """An instance that is not renewed is DOWN after its lease, and gone after the removal time."""
    registry.register(instance(lease_s=2))
    pass_time(registry, clock, 1.5)
    assert registry.get("accounts-1").status == "UP"
    pass_time(registry, clock, 0.5)
    assert registry.get("accounts-1").status == "DOWN"
    assert registry.live("accounts") == ()
    pass_time(registry, clock, 30)
    with pytest.raises(InstanceNotFound, match="'accounts-1' is not registered: register it"):
        registry.get("accounts-1")


def test_expire_says_when_it_is_due(registry: Registry, clock: Clock) -> None:
    """The registry asks to be called at the next deadline, and often enough to notice a pause."""
    assert registry.expire() == 1.5
    registry.register(instance(lease_s=0.2))
    assert registry.expire() == pytest.approx(0.2)


def test_renewal_keeps_up_and_revives(registry: Registry, clock: Clock) -> None:
    """A renewal is no change while the instance is live, and brings an expired one back."""
    listed = registry.register(instance(lease_s=2))
    pass_time(registry, clock, 1.5)
    assert registry.renew("accounts-1") is listed
    pass_time(registry, clock, 3)
    assert registry.get("accounts-1").status == "DOWN"
    assert registry.renew("accounts-1").status == "UP"
    assert registry.revision == listed.revision + 2


def test_override_outlives_registration(registry: Registry, clock: Clock) -> None:
    """An operator's status stays over renewals and registrations until it is taken away."""
    registry.register(instance())
    assert registry.override("accounts-1", "OUT_OF_SERVICE").status == "OUT_OF_SERVICE"
    assert registry.renew("accounts-1").status == "OUT_OF_SERVICE"
    assert registry.register(instance(version="2")).status == "OUT_OF_SERVICE"
    assert registry.override("accounts-1", None).status == "UP"


def test_expired_is_down_whatever_the_override(registry: Registry, clock: Clock) -> None:
    """An override cannot make a dead instance live."""
    registry.register(instance(lease_s=1))
    pass_time(registry, clock, 1)
    assert registry.override("accounts-1", "UP").status == "DOWN"


def test_update_needs_a_registration(registry: Registry) -> None:
    """Updating, renewing, removing or overriding an unknown id is refused."""
    for action in (
        lambda: registry.update(instance()),
        lambda: registry.renew("accounts-1"),
        lambda: registry.deregister("accounts-1"),
        lambda: registry.override("accounts-1", "DOWN"),
    ):
        with pytest.raises(InstanceNotFound):
            action()


def test_update_keeps_the_start(registry: Registry) -> None:
    """An update replaces everything but the time of the first registration."""
    first = registry.register(instance())
    second = registry.update(instance(status="DRAINING"))
    assert (second.status, second.started) == ("DRAINING", first.started)
    assert registry.live("accounts") == ()


def test_pause_gives_everyone_a_full_lease(registry: Registry, clock: Clock) -> None:
    """After the registry itself was stopped nobody expires at once; the silent do a lease later."""
    registry.register(instance("a", lease_s=2))
    registry.register(instance("b", lease_s=2))
    clock.now += 60
    registry.expire()
    assert len(registry.live("accounts")) == 2
    pass_time(registry, clock, 1)
    registry.renew("a")
    pass_time(registry, clock, 1.5)
    assert [i.id for i in registry.live("accounts")] == ["a"]


def test_changes_since(registry: Registry) -> None:
    """The changes after a known revision are complete; unknown revisions ask for a snapshot."""
    start = registry.revision
    a = registry.register(instance("a"))
    registry.register(instance("b"))
    registry.deregister("a")
    changes = registry.changes_since(start)
    assert changes is not None
    assert [(c.revision - start, c.kind, c.instance.id) for c in changes] == [
        (1, "put", "a"),
        (2, "put", "b"),
        (3, "remove", "a"),
    ]
    assert changes[2] == Change(start + 3, "remove", a)
    assert registry.changes_since(start + 3) == []
    assert registry.changes_since(start + 4) is None
    assert registry.changes_since(start - 1) is None


def test_log_is_bounded(registry: Registry) -> None:
    """Changes that the log has forgotten ask for a snapshot; the remembered ones are exact."""
    start = registry.revision
    for number in range(5_000):
        registry.register(instance(version=str(number)))
    assert registry.changes_since(start) is None
    oldest = registry.revision - 4096
    assert registry.changes_since(oldest - 1) is None
    remembered = registry.changes_since(oldest)
    assert remembered is not None
    assert [c.revision for c in remembered] == list(range(oldest + 1, registry.revision + 1))


def test_epochs_differ() -> None:
    """Two lives of a registry have different epochs."""
    assert Registry().epoch != Registry().epoch


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"service": ""}, "service is ''"),
        ({"id": "a/b"}, "id is 'a/b'"),
        ({"id": "x" * 201}, "id is 'xxx"),
        ({"host": " "}, "host is ' '"),
        ({"port": 0}, "port is 0, expected a number from 1 to 65535"),
        ({"port": 70000}, "port is 70000"),
        ({"weight": 0}, "weight is 0"),
        ({"host": "0.0.0.0"}, "not where it listens: set `advertise`"),
        ({"host": "::"}, "not where it listens: set `advertise`"),
        ({"host": "fe80::1%eth0"}, "means the same on every other"),
        ({"host": "224.0.0.1"}, "means the same on every other"),
        ({"host": "a..b"}, "a host name, of parts with 1 to 63"),
        ({"host": "x" * 64}, "a host name, of parts with 1 to 63"),
        ({"host": "ü" * 80}, "a host name, of parts with 1 to 63"),
        ({"host": "-a.example"}, "a host name, of parts with 1 to 63"),
        ({"host": ".".join(["a" * 60] * 5)}, "a host name, of parts with 1 to 63"),
        ({"port": 65536}, "port is 65536"),
        ({"weight": 1_000_001}, "weight is 1000001"),
        ({"zone": "z" * 1001}, "at most 1000 characters"),
        ({"routes": (RouteInfo("GET", "/" + "x" * 2000),)}, "of at most 2000 characters"),
        ({"routes": (RouteInfo("GET", "/" + "я" * 400),)}, "of at most 2000 characters"),
        ({"lease_s": 0.0}, "lease_s is 0.0"),
        ({"lease_s": float("inf")}, "lease_s is inf"),
        ({"lease_s": float("nan")}, "lease_s is nan"),
        ({"started": -1}, "started is -1"),
        ({"routes": (RouteInfo("get", "/x"),)}, "route get '/x'"),
        ({"routes": (RouteInfo("GET", "x"),)}, "route GET 'x'"),
    ],
)
def test_nonsense_is_refused(registry: Registry, fields: dict[str, Any], words: str) -> None:
    """A field without a sensible value is named with what it must be; nothing is registered."""
    with pytest.raises(MalformedMessage, match="is malformed") as caught:
        registry.register(instance(**({"id": "accounts-1"} | fields)))
    assert words in str(caught.value)
    assert registry.services() == {}


@pytest.mark.parametrize(
    ("host", "listed"),
    [
        ("LOCALHOST.", "localhost"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("10.0.0.1", "10.0.0.1"),
        ("my_host-1.example", "my_host-1.example"),
        ("zürich.example", "zürich.example"),
    ],
)
def test_a_host_has_one_spelling(registry: Registry, host: str, listed: str) -> None:
    """A host is listed in one way, so that equal addresses are known to be equal."""
    assert registry.register(instance(host=host)).host == listed
    registry.register(instance("other", host=listed, port=instance().port))
    assert [i.id for i in registry.all()] == ["other"]


def test_settling_is_a_matter_of_time(registry: Registry, clock: Clock) -> None:
    """A registry that began without memory is settling for a while, by its own clock."""
    assert registry.settling_s == 0
    registry.expect(5.0)
    pass_time(registry, clock, 2)
    assert registry.settling_s == 3
    pass_time(registry, clock, 4)
    assert registry.settling_s == 0


class RegistryMachine(RuleBasedStateMachine):
    """Whoever applies the changes has what the registry has."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.registry = Registry(clock=self.clock, removal_s=2)
        self.seen = self.registry.revision
        self.copy: dict[str, Instance] = {}
        self.heard: list[int] = []
        self.registry.listen(lambda change: self.heard.append(change.revision))

    ids = st.sampled_from(["a", "b", "c"])

    @rule(id=ids, status=st.sampled_from(["UP", "DRAINING"]), version=st.sampled_from(["1", "2"]))
    def register(self, id: str, status: Any, version: str) -> None:
        self.registry.register(instance(id, status=status, version=version, lease_s=2))

    @rule(id=ids, port=st.sampled_from([1, 2]), service=st.sampled_from(["accounts", "cards"]))
    def register_at(self, id: str, port: int, service: str) -> None:
        with contextlib.suppress(AddressTaken):
            self.registry.register(instance(id, port=port, service=service, lease_s=2))
            assert [i.id for i in self.registry.all() if i.port == port] == [id]

    @rule(id=ids, kind=st.sampled_from(["renew", "deregister"]))
    def tell(self, id: str, kind: str) -> None:
        known = {i.id for i in self.registry.all()}
        if id in known:
            getattr(self.registry, kind)(id)

    @rule(id=ids, status=st.sampled_from(["UP", "OUT_OF_SERVICE", None]))
    def override(self, id: str, status: Any) -> None:
        if id in {i.id for i in self.registry.all()}:
            self.registry.override(id, status)

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.registry.expire()

    @rule()
    def catch_up(self) -> None:
        changes = self.registry.changes_since(self.seen)
        assert changes is not None
        for change in changes:
            if change.kind == "put":
                self.copy[change.instance.id] = change.instance
            else:
                del self.copy[change.instance.id]
        self.seen = self.registry.revision
        assert sorted(self.copy.values(), key=lambda i: i.id) == self.registry.all()

    @invariant()
    def revisions_are_dense(self) -> None:
        assert self.heard == sorted(set(self.heard))
        assert not self.heard or self.heard[-1] == self.registry.revision
        assert len(self.heard) <= 1 or self.heard[-1] - self.heard[0] == len(self.heard) - 1

    @invariant()
    def an_address_has_one_instance(self) -> None:
        addresses = [i.address for i in self.registry.all()]
        assert len(set(addresses)) == len(addresses)

    @invariant()
    def live_is_up(self) -> None:
        listed = self.registry.services().get("accounts", ())
        assert self.registry.live("accounts") == tuple(i for i in listed if i.status == "UP")
        assert all(msgspec.json.decode(msgspec.json.encode(i), type=Instance) == i for i in listed)


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
