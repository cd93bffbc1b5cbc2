"""From a system to processes and ports."""

import errno
import socket
from collections.abc import Mapping
from contextlib import ExitStack

import msgspec
import pytest

from headwater.cli.given_settings import given_settings
from headwater.cli.supervising.plan import Ports, choose_ports, plan
from headwater.errors import AddressInUse, ConfigurationError
from headwater.operations.system import System, load_system
from headwater.service.settings import ServiceSettings
from tests.ports import HeldPort

TOML = """\
[system]
name = "shop"
data = "state"
[gateway]
port = 0
retries = 1
[discovery]
port = 0
[config]
port = 0
[services.orders]
app = "shop.orders:service"
instances = { command = 2, query = 1 }
environment = { SHOP = "1" }
[services.orders.settings]
segments = 8
drain_s = 3
[services.stock]
app = "shop.stock:service"
"""


@pytest.fixture
def system(tmp_path):
    """Return a system of two services."""
    path = tmp_path / "headwater.toml"
    path.write_text(TOML, encoding="utf-8")
    return load_system(path)


def chosen(system: System, given: Mapping[str, int | None] | None = None) -> Ports:
    """Return ports that are not held."""
    with ExitStack() as held:
        return choose_ports(system, given or {}, held=held)


def settings(arguments):
    """Return the --set values of a part's arguments."""
    values = [arguments[i + 1] for i, a in enumerate(arguments) if a == "--set"]
    return dict(value.split("=", 1) for value in values)


def test_every_instance_and_platform_service_is_a_part(system):
    """A part per platform service and per instance, named after service, role and number."""
    parts = plan(system, chosen(system))
    names = [part.name for part in parts]
    assert names == [
        "discovery",
        "config",
        "gateway",
        "orders-command-1",
        "orders-command-2",
        "orders-query-1",
        "stock-1",
    ]


def test_two_instances_of_one_name(tmp_path):
    """Names that instances of two services would share are refused, naming both services."""
    path = tmp_path / "headwater.toml"
    both = TOML + '[services.orders-command]\napp = "shop.more:service"\n'
    path.write_text(both, encoding="utf-8")
    system = load_system(path)
    said = "service 'orders' and one of 'orders-command' would both be called 'orders-command-1'"
    with pytest.raises(ConfigurationError, match=said):
        plan(system, chosen(system))


def test_an_instance_is_told_everything_it_needs(system, tmp_path):
    """An instance gets its role, name, data, addresses and the settings of its service."""
    ports = chosen(system)
    part = next(p for p in plan(system, ports) if p.name == "orders-command-2")
    assert part.arguments[:2] == ("run", "shop.orders:service")
    given = settings(part.arguments)
    assert given["role"] == "command"
    assert given["instance"] == "orders-command-2"
    assert given["data"] == str(tmp_path / "state")
    assert given["discovery"] == ports.url("discovery")
    assert given["config"] == ports.url("config")
    assert given["segments"] == "8"
    assert given["port"] == "0"
    assert part.environment == {"SHOP": "1", "HEADWATER_BUS": "sqlite:{data}/bus.db"}
    assert part.drain_s == 3.0


def test_no_argument_holds_a_password(system):
    """The databases are told by the environment, which not everybody on the machine can read."""
    url = "postgresql://me:secret@db/shop"
    known = msgspec.structs.replace(system, database=url)
    parts = plan(known, chosen(known))
    assert not any("secret" in text for part in parts for text in part.arguments)
    told = [part.environment for part in parts if part.kind == "instance"]
    assert len(told) == 4
    (config,) = [part.environment for part in parts if part.kind == "config"]
    assert config == {"HEADWATER_DATABASE": url}
    for environment in told:
        values = given_settings(ServiceSettings.__struct_fields__, {}, environment)
        assert values == {"store": url, "views": url, "bus": url}


def test_a_broker_is_told_by_the_environment(system):
    """Nor is the password of a broker an argument."""
    url = "amqp://me:secret@mq/shop"
    section = msgspec.structs.replace(system.services["stock"], settings={"amqp": url})
    known = msgspec.structs.replace(system, services={"stock": section})
    part = plan(known, chosen(known))[-1]
    assert part.environment["HEADWATER_AMQP"] == url
    assert not any("secret" in text for text in part.arguments)


def test_shards_are_told_as_one_text(system):
    """Several URLs of a store reach the instance separated by commas."""
    urls = ["postgresql://me:secret@a/x", "postgresql://me:secret@b/x"]
    section = msgspec.structs.replace(system.services["stock"], settings={"store": urls})
    known = msgspec.structs.replace(system, services={"stock": section})
    part = plan(known, chosen(known))[-1]
    assert part.environment["HEADWATER_STORE"] == ",".join(urls)
    assert not any("secret" in text for text in part.arguments)


def test_the_gateway_is_told_its_settings(system, tmp_path):
    """The gateway gets its section of the file, and keeps its files below the system's data."""
    part = next(p for p in plan(system, chosen(system)) if p.kind == "gateway")
    given = settings(part.arguments)
    assert given["retries"] == "1"
    assert given["data"] == str(tmp_path / "state" / "gateway")


@pytest.mark.parametrize(
    ("system_line", "config_line", "expected"),
    [
        ("", "", ""),
        ('database = "postgresql://db/shop"', "", "postgresql://db/shop"),
        ('database = "postgresql://db/shop"', 'database = ""', ""),
        ('database = "postgresql://db/shop"', 'database = "postgresql://x/y"', "postgresql://x/y"),
        ("", 'database = "postgresql://x/y"', "postgresql://x/y"),
    ],
)
def test_configuration_follows_the_database(tmp_path, system_line, config_line, expected):
    """The one line for all databases is that of the configuration, unless it has its own."""
    path = tmp_path / "headwater.toml"
    text = TOML.replace("[gateway]", f"{system_line}\n[gateway]")
    path.write_text(text.replace("[config]", f"[config]\n{config_line}"), encoding="utf-8")
    system = load_system(path)
    part = next(p for p in plan(system, chosen(system)) if p.kind == "config")
    given = settings(part.arguments)
    assert (
        part.environment["HEADWATER_DATABASE"] == expected
    )  # also when it is empty: the environment may name one
    assert given["directory"] == str(tmp_path / "config")


def test_ports_of_the_command_line_come_first(system):
    """A port given on the command line replaces the one in the file; 0 chooses distinct ones."""
    with HeldPort() as port:
        ports = chosen(system, {"gateway": port})
    assert ports.gateway == ("127.0.0.1", port)
    numbers = {ports.gateway[1], ports.discovery[1], ports.config[1]}
    assert len(numbers) == 3
    assert 0 not in numbers


def test_ports_are_held(system):
    """A part can listen on its port, again and again, and the system gives it to nobody else."""
    with ExitStack() as held:
        address = choose_ports(system, {}, held=held).discovery
        for _ in range(2):
            with socket.create_server(address), socket.create_connection(address):
                pass
            with socket.socket() as other, pytest.raises(OSError, match="in use") as caught:
                other.bind(address)
            assert caught.value.errno == errno.EADDRINUSE


def test_a_port_in_use_is_reported_before_anything_starts(system):
    """A taken port is an error that names host and port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse) as caught:
            chosen(system, {"config": port})
    assert caught.value.port == port


def test_two_parts_on_one_port_are_refused(system):
    """The same port for two parts is a mistake in the file, not an address in use."""
    with HeldPort() as port:
        words = f"gateway and discovery both have port {port}"
        with pytest.raises(ConfigurationError, match=words):
            chosen(system, {"gateway": port, "discovery": port})


def test_the_registry_is_told_its_database(tmp_path):
    """The registry gets the database of the system."""
    path = tmp_path / "headwater.toml"
    path.write_text(TOML.replace("[gateway]", 'database = "postgresql:///shop"\n[gateway]', 1))
    system = load_system(path)
    discovery = plan(system, chosen(system))[0]
    assert discovery.environment["HEADWATER_DATABASE"] == "postgresql:///shop"
