"""From a routing table to files."""

import re
from pathlib import Path

import msgspec
import pytest

from headwater.discovery import Instance, RouteInfo
from headwater.errors import AddressInUse, ConfigurationError, DeadlineExceeded
from headwater.gateway.addresses import Resolver, reserve
from headwater.gateway.envoy import Documents, Layout, bootstrap, documents, encode
from headwater.gateway.envoy_routes import KEYED
from headwater.gateway.files import ConfigFiles, write_atomically
from headwater.gateway.model import GatewaySettings
from headwater.gateway.routes import build_table

ROUTES = (
    RouteInfo("POST", "/accounts/{account_id}/deposits", "command", "Deposit", "account_id"),
    RouteInfo("POST", "/search", "query"),
    RouteInfo("GET", "/accounts/{account_id}", "query"),
    RouteInfo("GET", "/events", "stream"),
)
SETTINGS = GatewaySettings(data=Path("/data"))


def made(*zones: str, settings: GatewaySettings = SETTINGS, hosts=None) -> Documents:
    instances = tuple(
        Instance(service="a", id=f"a{n}", host="h", port=n + 1, zone=zone, routes=ROUTES)
        for n, zone in enumerate(zones)
    )
    addresses = {"h": "10.0.0.1"} if hosts is None else hosts
    return documents(build_table({"a": instances}), settings, port=80, addresses=addresses)


def route(found: Documents, method: str, path: str) -> list[dict]:
    """Return the Envoy routes that match a method and path, in order."""
    matching = []
    for entry in found.routes["headwater"]["virtual_hosts"][0]["routes"]:
        match = entry["match"]
        methods = [
            h["string_match"]["exact"] for h in match.get("headers", ()) if h["name"] == ":method"
        ]
        literal = match.get("path") == path
        pattern = match.get("safe_regex", {}).get("regex")
        if methods == [method] and (literal or (pattern and re.fullmatch(pattern, path))):
            matching.append(entry)
    return matching


def test_same_input_gives_same_bytes():
    """Documents and their versions are reproducible; a version changes with its content."""
    first, second = made("x", "y"), made("x", "y")
    assert encode(first.clusters) == encode(second.clusters)
    assert encode(first.endpoints) == encode(second.endpoints)
    assert encode(first.endpoints)[0] != encode(made("x").endpoints)[0]
    version, content = encode(first.routes)
    assert msgspec.json.decode(content)["version_info"] == version


def test_instances_change_endpoints_only():
    """An instance that comes or goes changes no route, no cluster and no listener."""
    before, after = made("x"), made("x", "y")
    assert before.endpoints != after.endpoints
    assert (before.routes, before.clusters) == (after.routes, after.clusters)
    assert before.listeners == after.listeners


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
    ]


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
    found = documents(table, SETTINGS, port=80)
    entries = found.routes["headwater"]["virtual_hosts"][0]["routes"][1:]
    told = [[h["name"] for h in entry["match"].get("headers", ())] for entry in entries]
    put = [[":method", "idempotency-key"], [":method"]]
    assert told == [*put, [":method"], [":method"], ["idempotency-key"], []]


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


def priorities(found: Documents, cluster: str) -> dict[str, int]:
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


def test_bootstrap_names_absolute_paths():
    """Envoy finds the files wherever it is started."""
    settings = GatewaySettings(data=Path("relative"), admin_port=7)
    found = msgspec.json.decode(bootstrap(settings))
    path = found["dynamic_resources"]["cds_config"]["path_config_source"]["path"]
    assert Path(path) == Path("relative/cds.json").absolute()
    assert found["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 7}


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


class Envoy:
    """Notes the order in which files change, and refuses a version if told."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.steps: list[str] = []
        self.refuse = ""
        self.error: Exception | None = None

    async def confirm(self, versions) -> None:
        self.steps.append("+".join(sorted(name.split(".")[-2] for name in versions)))
        if self.error is not None and any(self.refuse in name for name in versions):
            raise self.error

    def names(self) -> list[str]:
        content = msgspec.json.decode(self.layout.clusters.read_bytes())
        return [resource["name"] for resource in content["resources"]]


@pytest.fixture
def layout(tmp_path):
    found = Layout(tmp_path)
    found.endpoints.mkdir()
    return found


def documents_of(*clusters: str, routes: str = "r") -> Documents:
    return Documents(
        listeners={"l": {"name": "l"}},
        routes={"headwater": {"name": routes}},
        clusters={name: {"name": name} for name in clusters},
        endpoints={name: {"cluster_name": name} for name in clusters},
    )


async def test_clusters_arrive_before_routes_and_leave_after(layout):
    """A change adds clusters before the routes that name them and removes the others after."""
    envoy, files = Envoy(layout), ConfigFiles(layout)
    assert await files.publish(documents_of("a", "b"), envoy.confirm)
    assert not await files.publish(documents_of("a", "b"), envoy.confirm)
    envoy.steps.clear()
    seen: list[tuple[str, list[str]]] = []

    async def confirm(versions) -> None:
        await envoy.confirm(versions)
        seen.append((envoy.steps[-1], envoy.names()))

    assert await files.publish(documents_of("b", "c", routes="r2"), confirm)
    assert [step for step in seen if step[0] in ("cds", "headwater")] == [
        ("cds", ["a", "b", "c"]),
        ("headwater", ["a", "b", "c"]),
        ("cds", ["b", "c"]),
    ]
    assert sorted(p.name for p in layout.endpoints.iterdir()) == ["b.json", "c.json"]


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError(subject="gateway", reason="refused"),
        DeadlineExceeded(action="x", timeout_s=1.0),
    ],
)
async def test_refused_change_is_undone(layout, error):
    """After a refusal the files are those of the accepted configuration, without the new."""
    envoy, files = Envoy(layout), ConfigFiles(layout)
    await files.publish(documents_of("a"), envoy.confirm)
    before = {path: path.read_bytes() for path in layout.data.rglob("*.json")}
    envoy.refuse, envoy.error = "rds", error
    with pytest.raises(type(error)):
        await files.publish(documents_of("b", routes="r2"), envoy.confirm)
    # The double refuses the undoing, too, so the rest is written when Envoy agrees again.
    envoy.error = None
    assert files.accepted == documents_of("a")
    assert await files.publish(documents_of("a", routes="r3"), envoy.confirm)
    assert await files.publish(documents_of("a"), envoy.confirm)
    assert {path: path.read_bytes() for path in layout.data.rglob("*.json")} == before


async def test_refused_change_is_not_tried_twice(layout):
    """A configuration that was refused is refused again without bothering Envoy."""
    envoy, files = Envoy(layout), ConfigFiles(layout)
    await files.publish(documents_of("a"), envoy.confirm)
    envoy.refuse, envoy.error = "rds", ConfigurationError(subject="gateway", reason="refused")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="refused"):
            await files.publish(documents_of("b", routes="r2"), envoy.confirm)
        envoy.steps.clear()
    assert envoy.steps == []


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
