"""From registered instances to a routing table."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.discovery import Instance, RouteInfo
from headwater.errors import ConfigurationError
from headwater.gateway.last_seen import LastSeen
from headwater.gateway.model import GatewaySettings, RoutingTable
from headwater.gateway.routes import build_table, cluster_name

DEPOSIT = RouteInfo("POST", "/accounts/{account_id}/deposits", "command", "Deposit", "account_id")
ACCOUNT = RouteInfo("GET", "/accounts/{account_id}", "query", "GetAccount")
EVENTS = RouteInfo("GET", "/events", "stream")
IMPORT = RouteInfo("POST", "/import", "http")


def instance(id="a1", *, routes=(DEPOSIT, ACCOUNT), service="accounts", port=None, **other):
    port = port or 1000 + sum(map(ord, id))
    return Instance(service=service, id=id, host="10.0.0.1", port=port, routes=routes, **other)


def table(*instances, previous=None, prefixes=False) -> RoutingTable:
    services = {}
    for one in instances:
        services[one.service] = (*services.get(one.service, ()), one)
    return build_table(services, previous=previous, prefixes=prefixes)


def targets(found: RoutingTable) -> dict[str, set[str]]:
    """Return the instances that each route reaches."""
    clusters = {c.name: {e.instance for e in c.endpoints} for c in found.clusters}
    return {f"{r.method} {r.path}": clusters[r.cluster] for r in found.routes}


def test_kind_chooses_the_side():
    """Commands reach command|all, queries query|all, http and streams whoever declared them."""
    every = (DEPOSIT, ACCOUNT, EVENTS, IMPORT)
    found = targets(
        table(
            instance("w", role="command", routes=every),
            instance("r", role="query", routes=every),
            instance("b", role="all", routes=every),
        )
    )
    assert found == {
        "POST /accounts/{account_id}/deposits": {"w", "b"},
        "GET /accounts/{account_id}": {"r", "b"},
        "GET /events": {"w", "r", "b"},
        "POST /import": {"w", "r", "b"},
    }


@pytest.mark.parametrize("status", ["STARTING", "DRAINING", "OUT_OF_SERVICE", "DOWN"])
def test_only_up_instances_are_targets(status):
    """The routes of an instance that is not UP are known, but it gets no request."""
    assert targets(table(instance("a", status=status), instance("b"))) == {
        "POST /accounts/{account_id}/deposits": {"b"},
        "GET /accounts/{account_id}": {"b"},
    }
    assert set(map(len, targets(table(instance("a", status=status))).values())) == {0}


def test_route_reaches_only_those_that_declared_it():
    """A route declared by some instances has a cluster of its own; shared ones stay whole."""
    new = RouteInfo("GET", "/accounts/{account_id}/cards", "query")
    found = table(instance("old"), instance("new", routes=(DEPOSIT, ACCOUNT, new)))
    assert targets(found) == {
        "POST /accounts/{account_id}/deposits": {"old", "new"},
        "GET /accounts/{account_id}": {"old", "new"},
        "GET /accounts/{account_id}/cards": {"new"},
    }
    down = table(instance("old"), instance("new", routes=(ACCOUNT, new), status="DOWN"))
    assert targets(down)["GET /accounts/{account_id}/cards"] == set()
    assert targets(down)["GET /accounts/{account_id}"] == {"old"}


def test_first_registered_service_owns_a_route():
    """Of two services with one method and path the first registered serves; both are told."""
    mine = RouteInfo("GET", "/accounts/{id}", "query")
    first, second = instance("a", since=2), instance("z", service="b", routes=(mine,), since=1)
    found = table(first, second)
    assert targets(found)["GET /accounts/{id}"] == {"z"}
    (problem,) = found.problems
    assert (problem.service, problem.path) == ("accounts", "/accounts/{account_id}")
    assert "'b' registered the same method and path first" in problem.reason


def test_owner_keeps_its_route_through_a_restart():
    """A service keeps its route when its instances are replaced, until it declares it no more."""
    mine = RouteInfo("GET", "/accounts/{id}", "query")
    rival = instance("z", service="rival", routes=(mine,), since=5)
    before = table(instance("a", since=1), rival)
    after = table(instance("b", since=9), rival, previous=before)
    assert targets(after)["GET /accounts/{account_id}"] == {"b"}
    gone = table(instance("b", since=9, routes=(DEPOSIT,)), rival, previous=after)
    assert targets(gone)["GET /accounts/{id}"] == {"z"}


def test_one_path_may_belong_to_several_by_method():
    """The methods of one path may be served by different services."""
    other = instance("c", service="cards", routes=(RouteInfo("PUT", "/accounts/{id}", "command"),))
    found = table(instance("a"), other)
    assert found.problems == ()
    assert targets(found)["PUT /accounts/{id}"] == {"c"}


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (RouteInfo("GET", "/a/{b", "query"), "brace"),
        (RouteInfo("G T", "/a", "query"), "not an HTTP method"),
        (RouteInfo("GET", "/health/ready", "http"), "answers this path itself"),
    ],
)
def test_faulty_route_is_reported_and_harms_no_other(route, reason):
    """A route that cannot be served is reported once; the others are served."""
    found = table(instance("a", routes=(route, ACCOUNT)), instance("b", routes=(route, ACCOUNT)))
    assert [reason in problem.reason for problem in found.problems] == [True]
    assert list(targets(found)) == ["GET /accounts/{account_id}"]


def test_key_must_be_in_the_path():
    """A key that is no path parameter is not used."""
    loose = RouteInfo("POST", "/accounts", "command", "Open", "account_id")
    assert [r.key for r in table(instance(routes=(loose, DEPOSIT))).routes] == ["", "account_id"]


def test_prefixes_offer_both_sides():
    """Below its prefix a service's reads and writes go to its two sides."""
    found = table(instance("w", role="command"), instance("r", role="query"), prefixes=True)
    clusters = {c.name: {e.instance for e in c.endpoints} for c in found.clusters}
    assert [clusters[name] for name in found.prefixes["accounts"]] == [{"r"}, {"w"}]
    single = table(instance("r", role="query"), prefixes=True)
    clusters = {c.name: {e.instance for e in c.endpoints} for c in single.clusters}
    assert [clusters[name] for name in single.prefixes["accounts"]] == [{"r"}, {"r"}]
    assert table(instance("r")).prefixes == {}


@given(st.integers(0, 2**16))
def test_order_of_instances_does_not_matter(seed):
    """The table depends on what is registered, not on the order in which it is listed."""
    rivals = (RouteInfo("GET", "/accounts/{x}", "query"),)
    listed = [instance(f"a{n}", role=("all", "query", "command")[n % 3]) for n in range(5)]
    listed += [instance("z1", service="z", routes=rivals), instance("z2", service="z")]
    shuffled = random.Random(seed).sample(listed, len(listed))
    shuffled_table = table(*shuffled)
    expected = table(*listed)
    assert msgspec.json.encode(shuffled_table, order="sorted") == msgspec.json.encode(
        expected, order="sorted"
    )


def test_cluster_names_are_unique():
    """Different service names never share a cluster, whatever characters they have."""
    services = ("a b", "a~20~b", "a/b", "a.b", "ä", "a_b")
    names = [cluster_name(service, "query") for service in services]
    assert len(set(names)) == len(names)
    assert all("/" not in name and name.isascii() for name in names)


def test_vanished_service_is_remembered_for_a_while():
    """The last instances of a vanished service, or role, stay known as DOWN, then are forgotten."""
    memory = LastSeen(remember_s=10)
    writer, reader = instance("w", role="command"), instance("r", role="query")
    assert memory.merge({"accounts": (writer, reader)}, now=0) == {"accounts": (writer, reader)}
    merged = memory.merge({"accounts": (reader,)}, now=5)
    assert [(i.id, i.status) for i in merged["accounts"]] == [("r", "UP"), ("w", "DOWN")]
    merged = memory.merge({}, now=14.9)
    assert sorted((i.id, i.status) for i in merged["accounts"]) == [("r", "DOWN"), ("w", "DOWN")]
    assert [i.id for i in memory.merge({}, now=15)["accounts"]] == ["r"]
    assert memory.merge({}, now=25) == {}
    again = memory.merge({"accounts": (writer,)}, now=26)
    assert again == {"accounts": (writer,)}


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 65536), ("body_limit_bytes", 0), ("read_timeout_s", 0.0), ("retries", 11)],
)
def test_impossible_settings_are_refused(name, value):
    """A setting out of its range is refused by name."""
    with pytest.raises(ConfigurationError, match=f"gateway.{name}: is {value}"):
        GatewaySettings(**{name: value})
