"""From a routing table to files."""

import re
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from google.protobuf import json_format

from headwater._os.files import write_atomically
from headwater.discovery import Instance, RouteInfo
from headwater.errors import AddressInUse, ConfigurationError
from headwater.gateway.addresses import Resolver, reserve
from headwater.gateway.envoy import EDS, bootstrap, cluster, load_assignment
from headwater.gateway.envoy_routes import KEYED, route_configuration
from headwater.gateway.model import GatewaySettings, RoutingTable
from headwater.gateway.routes import build_table
from headwater.gateway.wire import CLUSTERS, ENDPOINTS, encode, resource
from headwater.gateway.wire import ROUTES as ROUTE_LIST

ROUTES = (
    RouteInfo("POST", "/accounts/{account_id}/deposits", "command", "Deposit", "account_id"),
    RouteInfo("POST", "/search", "query"),
    RouteInfo("GET", "/accounts/{account_id}", "query"),
    RouteInfo("GET", "/events", "stream"),
)
SETTINGS = GatewaySettings(data=Path("/data"))


class Made(NamedTuple):
    """What Envoy is told of a table."""

    routes: dict
    clusters: dict
    endpoints: dict


def told(table: RoutingTable, settings: GatewaySettings = SETTINGS, hosts=None) -> Made:
    addresses = {"h": "10.0.0.1"} if hosts is None else hosts
    return Made(
        route_configuration(table, settings),
        {c.name: cluster(c, settings) for c in table.clusters},
        {c.name: load_assignment(c, settings, addresses) for c in table.clusters},
    )


def made(*zones: str, settings: GatewaySettings = SETTINGS, hosts=None, **other) -> Made:
    instances = tuple(
        Instance(service="a", id=f"a{n}", host="h", port=n + 1, zone=zone, routes=ROUTES, **other)
        for n, zone in enumerate(zones)
    )
    return told(build_table({"a": instances}), settings, hosts)


def route(found: Made, method: str, path: str) -> list[dict]:
    """Return the Envoy routes that match a method and path, in order."""
    matching = []
    for entry in found.routes["virtual_hosts"][0]["routes"]:
        match = entry["match"]
        methods = [
            h["string_match"].get("exact") or h["string_match"]["safe_regex"]["regex"].split("|")[0]
            for h in match.get("headers", ())
            if h["name"] == ":method"
        ]
        literal = match.get("path") == path
        pattern = match.get("safe_regex", {}).get("regex")
        if methods == [method] and (literal or (pattern and re.fullmatch(pattern, path))):
            matching.append(entry)
    return matching


def test_same_input_gives_same_bytes():
    """What Envoy is told is reproducible; a version changes with its content."""
    first, second = made("x", "y"), made("x", "y")
    assert encode(ROUTE_LIST, first.routes) == encode(ROUTE_LIST, second.routes)
    for kind, name in ((CLUSTERS, "clusters"), (ENDPOINTS, "endpoints")):
        one, two = getattr(first, name)["a.query"], getattr(second, name)["a.query"]
        assert resource(encode(kind, one)) == resource(encode(kind, two))
    mine = resource(encode(ENDPOINTS, first.endpoints["a.query"]))
    changed = resource(encode(ENDPOINTS, made("x").endpoints["a.query"]))
    assert mine.version != changed.version


def test_whatever_is_told_can_be_encoded():
    """Every field that is used, in every kind of route and cluster, is one that Envoy knows."""
    rich = msgspec.structs.replace(SETTINGS, zone="x", service_prefix=True, ca_file="/ca")
    table = build_table(
        {
            "a": (
                Instance(
                    service="a", id="a", host="h", port=1, zone="x", scheme="https", routes=ROUTES
                ),
            )
        },
        prefixes=True,
    )
    found = told(msgspec.structs.replace(table, settling=True), rich)
    assert encode(ROUTE_LIST, found.routes)
    for name in found.clusters:
        assert encode(CLUSTERS, found.clusters[name] | EDS)
        assert encode(ENDPOINTS, found.endpoints[name])
    with pytest.raises(json_format.ParseError, match="of_nobody"):
        encode(CLUSTERS, found.clusters["a.query"] | {"of_nobody": 1})


def test_instances_change_endpoints_only():
    """An instance that comes or goes changes no route and no cluster."""
    before, after = made("x"), made("x", "y")
    assert before.endpoints != after.endpoints
    assert (before.routes, before.clusters) == (after.routes, after.clusters)


def test_write_with_key_comes_first_and_may_be_repeated():
    """Writes with an idempotency key are retried after a reset, plain ones only before it."""
    keyed, plain = route(made("x"), "POST", "/accounts/7/deposits")
    assert keyed["match"]["headers"][1] == KEYED
    conditions = keyed["route"]["retry_policy"]["retry_on"].split(",")
    assert "reset" in conditions
    assert plain["route"]["retry_policy"]["retry_on"].split(",") == [
        "connect-failure",
        "refused-stream",
        "reset-before-request",
        "retriable-status-codes",
    ]
    assert plain["route"]["retry_policy"]["retriable_status_codes"] == [421]


def test_query_by_post_is_a_read():
    """A query is safe to repeat whatever its method."""
    (found,) = route(made("x"), "POST", "/search")
    assert found["route"]["cluster"] == "a.query"
    assert "reset" in found["route"]["retry_policy"]["retry_on"].split(",")


def test_any_method_is_divided_into_reads_and_writes():
    """A route for every method is a read for GET and HEAD, else a write; named methods win."""
    routes = (RouteInfo("*", "/a", "http"), RouteInfo("PUT", "/a", "http"))
    table = build_table({"a": (Instance(service="a", id="a", host="h", port=1, routes=routes),)})
    assert [r.method for r in table.routes] == ["PUT", "*"]
    entries = told(table).routes["virtual_hosts"][0]["routes"][2:]
    names = [[h["name"] for h in entry["match"].get("headers", ())] for entry in entries]
    put = [[":method", "idempotency-key"], [":method"]]
    assert names == [*put, [":method"], ["idempotency-key"], []]


def test_target_is_hashed():
    """The hash of a command is the one path segment that names its target."""
    for entry in route(made("x"), "POST", "/accounts/7/deposits"):
        (policy,) = entry["route"]["hash_policy"]
        rewrite = policy["header"]["regex_rewrite"]
        for path in ("/accounts/k-7/deposits", "/accounts/k-7/deposits?a=/accounts/x/deposits"):
            assert re.sub(rewrite["pattern"]["regex"], rewrite["substitution"], path) == "k-7"


def test_stream_has_no_limits():
    """A stream route has no time limit and no size limit."""
    (found,) = route(made("x"), "GET", "/events")
    assert (found["route"]["timeout"], found["route"]["idle_timeout"]) == ("0s", "0s")
    assert found["typed_per_filter_config"]["envoy.filters.http.buffer"]["disabled"]


def priorities(found: Made, cluster: str) -> dict[str, int]:
    groups = found.endpoints[cluster]["endpoints"]
    return {group["locality"]["zone"]: group["priority"] for group in groups}


def test_zone_is_preferred_for_reads_only():
    """Reads prefer the own zone; commands do not, so that all gateways agree on a target."""
    near = msgspec.structs.replace(SETTINGS, zone="x")
    found = made("x", "y", settings=near)
    assert priorities(found, "a.query") == {"x": 0, "y": 1}
    assert priorities(found, "a.command") == {"x": 0, "y": 0}
    assert priorities(made("y", "z", settings=near), "a.query") == {"y": 0, "z": 0}


def test_unresolved_host_is_left_out():
    """An endpoint whose host has no address is left out; Envoy takes addresses only."""
    assert made("x", hosts={}).endpoints["a.query"]["endpoints"] == []


def test_bootstrap_names_where_the_gateway_is():
    """Envoy finds the gateway's sockets, its own admin port and its listener in the bootstrap."""
    settings = GatewaySettings(data=Path("relative"), admin_port=7)
    found = msgspec.json.decode(bootstrap(settings, host="1.2.3.4", port=5, sockets=Path("/s")))
    own = {
        c["name"]: c["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
        for c in found["static_resources"]["clusters"]
    }
    assert own["headwater-gateway"] == {"pipe": {"path": "/s/control"}}
    assert own["headwater-status"] == {"pipe": {"path": "/s/status"}}
    (listener,) = found["static_resources"]["listeners"]
    assert listener["address"]["socket_address"] == {"address": "1.2.3.4", "port_value": 5}
    assert found["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 7}


def test_weights_stay_within_what_envoy_adds_up():
    """However many instances of however large a weight there are, Envoy takes their sum."""
    found = made(*["x"] * 5000, weight=1_000_000).endpoints["a.query"]
    weights = [e["load_balancing_weight"] for e in found["endpoints"][0]["lb_endpoints"]]
    assert 0 < sum(weights) < 2**32


def test_write_is_atomic_and_only_on_change(tmp_path):
    """An unchanged file is not touched, a changed one is replaced, and nothing is left over."""
    path = tmp_path / "a.json"
    assert write_atomically(path, b"one")
    inode = path.stat().st_ino
    assert not write_atomically(path, b"one")
    assert path.stat().st_ino == inode
    assert write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


async def test_names_are_resolved_and_kept():
    """A host name gets its address, an address stays itself, an unknown name is left out."""
    found = await Resolver().resolve(["localhost", "10.1.2.3", "::1", "nowhere.invalid"])
    assert found["10.1.2.3"] == "10.1.2.3"
    assert found["::1"] == "::1"
    assert found["localhost"] in {"127.0.0.1", "::1"}
    assert "nowhere.invalid" not in found


def test_foreign_host_cannot_be_listened_on():
    """An address of another machine is refused with the setting to correct."""
    with pytest.raises(ConfigurationError, match=r"gateway\.host"):
        reserve("192.0.2.77", 0)


def test_reserved_port_is_not_given_away():
    """A port with a listener cannot be reserved; a free one can, again and again."""
    with reserve("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        first.listen()
        with pytest.raises(AddressInUse):
            reserve("127.0.0.1", port)
    reserve("127.0.0.1", port).close()
