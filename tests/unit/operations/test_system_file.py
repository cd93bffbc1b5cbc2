"""headwater.toml: what it gives, and how its mistakes are reported."""

from pathlib import Path

import pytest

from headwater.errors import ConfigurationError
from headwater.operations.system import load_system
from headwater.service.settings import service_settings

BASE = """\
[system]
name = "shop"

[services.orders]
app = "shop.orders:service"
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that writes headwater.toml."""
    monkeypatch.delenv("HEADWATER_DATA", raising=False)
    monkeypatch.delenv("HEADWATER_DATABASE", raising=False)
    monkeypatch.delenv("HEADWATER_BUS", raising=False)

    def write(text: str) -> Path:
        path = tmp_path / "headwater.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_minimal_file_describes_a_whole_system(write, tmp_path):
    """Everything but the name and the services has a default."""
    system = load_system(write(BASE))
    assert system.name == "shop"
    assert system.data == tmp_path / ".headwater"
    assert system.python_path == (tmp_path,)
    assert system.config_directory == tmp_path / "config"
    assert (system.discovery.port, system.config.port) == (8761, 8888)
    assert system.services["orders"].instances == {"all": 1}
    assert system.settings("orders")["bus"] == "sqlite:{data}/bus.db"


def test_settings_of_a_service_come_before_those_of_the_system(write):
    """What [services.NAME.settings] says replaces what the system gives."""
    system = load_system(write(BASE + '[services.orders.settings]\nbus = ""\nsegments = 2\n'))
    assert system.settings("orders")["bus"] == ""
    assert system.settings("orders")["segments"] == 2


def test_retries_are_said_once_for_all_services(write):
    """[processors] is for all services; what it leaves out, a configuration may still say."""
    assert not any(name.startswith("retry") for name in load_system(write(BASE)).settings("orders"))
    more = "[processors]\nattempts = 3\npause_s = 0.5\n"
    values = load_system(write(more + BASE)).settings("orders")
    assert (values["retry_attempts"], values["retry_pause_s"]) == (3, 0.5)
    settings = service_settings(values, origin="the test")
    assert (settings.retry.attempts, settings.retry.pause_max_s) == (3, 15.0)
    with pytest.raises(ConfigurationError, match="retry_attempts must be 1 or more"):
        load_system(write("[processors]\nattempts = 0\n" + BASE))


def test_the_environment_can_move_the_data(write, tmp_path, monkeypatch):
    """HEADWATER_DATA comes before `data`, so that a demo or a test keeps its own."""
    monkeypatch.setenv("HEADWATER_DATA", str(tmp_path / "elsewhere"))
    assert load_system(write(BASE)).data == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[gatway]\n", 6, "unknown key 'gatway': did you mean 'gateway'?"),
        ("[gateway]\nprot = 1\n", 7, "unknown key 'prot' in [gateway]: did you mean 'port'?"),
        ('[gateway]\nport = "x"\n', 7, "gateway.port: expected `int`, got `str`"),
        ("[gateway]\nport = 99999\n", 7, "gateway.port is 99999, expected 0 to 65535"),
        ("instnces = { all = 1 }\n", 6, "did you mean 'instances'?"),
        ("instances = { comand = 1 }\n", 6, "did you mean 'command'?"),
        ("instances = { command = -1 }\n", 6, "instances.command is -1, expected 0 to 100"),
        ("[services.orders.settings]\nsegmants = 3\n", 7, "did you mean 'segments'?"),
        ('[services.orders.settings]\nsegments = "y"\n', 7, "segments: expected `int`, got `str`"),
        ("[services.orders.settings]\nport = 1\n", 7, "unknown key 'port'"),
        ('[services]\nb = "x"\n', 7, "services.b must be a table"),
        ('[bus]\nurl = "x"\npartitons = 1\n', 8, "did you mean 'partitions'?"),
        ("[discovery]\nzzz = 1\n", 7, "known are database, host, port"),
    ],
)
def test_a_typo_is_reported_with_line_key_and_remedy(write, text, line, words):
    """A mistake gives one error that names the file, the line and the nearest known key."""
    path = write(BASE + text)
    with pytest.raises(ConfigurationError) as caught:
        load_system(path)
    message = caught.value.message
    assert message.startswith(str(path))
    assert f":{line}:" in message or f"line {line}" in message
    assert words in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[system\n", "is not TOML: "),
        ('[system]\nname = "x"\n', "no service: add [services.NAME]"),
        ('[services.a]\napp = "m:s"\n', "missing required field `name`"),
        (BASE.replace(":service", ""), 'expected "module:service"'),
        (BASE.replace('"shop"', "7"), "system.name: expected `str`, got `int`"),
    ],
)
def test_what_is_missing_or_wrong_is_named(write, text, words):
    """A file that describes no system says what it lacks."""
    with pytest.raises(ConfigurationError, match=r".") as caught:
        load_system(write(text))
    assert words in caught.value.message


def test_a_missing_file_says_what_to_do(tmp_path):
    """Without a file the error tells how to name or make one."""
    with pytest.raises(ConfigurationError, match=r"does not exist.*--file.*headwater new"):
        load_system(tmp_path / "headwater.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    """Bytes that are not UTF-8 are reported, not raised as a decoding error."""
    path = tmp_path / "headwater.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        load_system(path)


def test_the_example_bank_is_a_valid_system():
    """The bank's own file is read without complaint and has the instances it is known for."""
    bank = Path(__file__).parents[3] / "examples/bank/headwater.toml"
    system = load_system(bank)
    instances = {name: dict(section.instances) for name, section in system.services.items()}
    assert instances == {
        "customers": {"all": 1},
        "accounts": {"command": 2, "query": 2},
        "transfers": {"all": 1},
        "insights": {"query": 1},
    }
    assert system.gateway["port"] == 8080


def test_one_database_for_everything(write, monkeypatch):
    """``database`` carries all stores and the bus, a schema each; a service may differ."""
    own = '[services.orders.settings]\nviews = "postgresql://other/views?schema=x"\n'
    file = write(BASE.replace("[services", 'database = "postgresql://db/shop"\n\n[services') + own)

    def urls() -> list[str]:
        settings = service_settings(load_system(file).settings("orders"), origin="the file")
        return [*settings.stores, settings.url("views"), settings.url("bus")]

    assert urls() == [
        "postgresql://db/shop?schema=orders",
        "postgresql://other/views?schema=x",
        "postgresql://db/shop?schema=headwater_bus",
    ]
    monkeypatch.setenv("HEADWATER_DATABASE", "postgresql:///shop?host=/run/pg")
    assert urls()[0] == "postgresql:///shop?host=/run/pg&schema=orders"


def test_another_bus_stays(write):
    """A bus that is not a file stays where the file says, whatever carries the stores."""
    bus = '\n[bus]\nurl = "memory:"\n'
    file = write(BASE.replace("[services", 'database = "postgresql://db/shop"\n\n[services') + bus)
    assert load_system(file).settings("orders")["bus"] == "memory:"


def test_the_environment_names_another_bus(write, monkeypatch):
    """It replaces the bus of the file, and leaves the number of partitions."""
    file = write(BASE + '\n[bus]\nurl = "memory:"\npartitions = 7\n')
    monkeypatch.setenv("HEADWATER_BUS", "kafka://me:secret@mq:9092/shop")
    settings = load_system(file).settings("orders")
    assert (settings["bus"], settings["partitions"]) == ("kafka://me:secret@mq:9092/shop", 7)


def test_the_registry_is_in_the_database_too(write, monkeypatch):
    """The one line holds for the registry, unless ``[discovery]`` says otherwise."""
    file = write(BASE)
    assert load_system(file).discovery_database == ""
    monkeypatch.setenv("HEADWATER_DATABASE", "postgresql:///shop")
    assert load_system(file).discovery_database == "postgresql:///shop"
    for own in ("", "postgresql:///other"):
        file = write(BASE + f'\n[discovery]\ndatabase = "{own}"\n')
        assert load_system(file).discovery_database == own


def test_two_names_that_are_one_schema(write, monkeypatch):
    """Services whose names become one schema are refused with both names and the remedy."""
    two = BASE + '[services.order-items]\napp = "a:b"\n[services.order_items]\napp = "c:d"\n'
    file = write(two)
    load_system(file)  # as files they have a folder each
    monkeypatch.setenv("HEADWATER_DATABASE", "postgresql://me:secret@db/shop")
    with pytest.raises(ConfigurationError) as refused:
        load_system(file)
    text = str(refused.value)
    assert text.startswith(f"{file}:8: services 'order-items' and 'order_items' would keep")
    assert "postgresql://db/shop?schema=order_items" in text
    assert 'store = "postgresql://.../database?schema=another"' in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Orders", "orders"),
        ("x" * 60 + "a", "x" * 60 + "b"),
        ("1a", "s-1a"),
        ("pg_orders", "s_pg_orders"),
        ("-a", "a-"),
    ],
)
def test_other_names_that_are_one_schema(write, monkeypatch, one, other):
    """Case, length and what a schema cannot begin with are found out, too."""
    monkeypatch.setenv("HEADWATER_DATABASE", "postgresql://db/shop")
    text = BASE.replace("[services.orders]", f"[services.{one}]")
    text += f'[services.{other}]\napp = "c:d"\n'
    with pytest.raises(ConfigurationError, match="would keep their data in the same place"):
        load_system(write(text))
    own = f'[services.{other}.settings]\nstore = "postgresql://db/shop?schema=own"\n'
    with pytest.raises(ConfigurationError, match="views = "):
        load_system(write(text + own))
    own += 'views = "postgresql://db/shop?schema=own"\n'
    assert set(load_system(write(text + own)).services) == {one, other}


@pytest.mark.parametrize("engine", ["store", "views"])
def test_two_services_in_one_file(write, tmp_path, engine):
    """One file for two services is refused, whichever engine it is of and however it is spelled."""
    text = BASE + f'[services.orders.settings]\n{engine} = "sqlite:{tmp_path}/x/../all.db"\n'
    text += '[services.stock]\napp = "shop.stock:service"\n'
    text += f'[services.stock.settings]\n{engine} = "sqlite:{tmp_path}/all.db"\n'
    with pytest.raises(ConfigurationError, match=f"services 'orders' and 'stock'.*{engine} = "):
        load_system(write(text))
    load_system(write(text.replace(f"{tmp_path}/all.db", f"{tmp_path}/{{service}}.db")))


def test_one_service_may_have_everything_in_one_file(write, tmp_path):
    """Store and views of one service may share a file; memory is shared by nobody."""
    one = f'store = "sqlite:{tmp_path}/all.db"\nviews = "sqlite:{tmp_path}/all.db"\n'
    load_system(write(BASE + "[services.orders.settings]\n" + one))
    both = "".join(
        f'[services.{name}]\napp = "a:b"\n[services.{name}.settings]\nstore = "memory:"\n'
        for name in ("a", "b")
    )
    load_system(write(BASE + both))
