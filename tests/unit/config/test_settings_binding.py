"""Typed settings."""

from contextlib import aclosing
from typing import Annotated, Any

import msgspec
import pytest

from headwater.config import Config, ConfigDocument, Settings, StaticConfig
from headwater.config.binding import bind, override
from headwater.errors import ConfigurationError


class Pool(msgspec.Struct):
    size: Annotated[int, msgspec.Meta(ge=1)] = 4
    hosts: list[str] = []


class Accounts(msgspec.Struct):
    limit: int
    audit: bool = False
    pool: Pool = msgspec.field(default_factory=Pool)
    api_key: str = ""


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    limit: int = 1


def document(config: dict[str, Any], **origins: str) -> ConfigDocument:
    names = {key.replace("__", "."): value for key, value in origins.items()}
    return ConfigDocument("bank", config=config, origins=names)


def test_texts_become_what_the_type_asks() -> None:
    """Texts, as from placeholders and variables, are converted."""
    config = {"accounts": {"limit": "5", "audit": "true", "pool": {"size": "2", "hosts": ["a"]}}}
    assert bind(document(config), Accounts, prefix="accounts") == Accounts(
        5, audit=True, pool=Pool(2, ["a"])
    )


def test_absent_section_is_all_defaults() -> None:
    """A section that does not exist is empty."""
    assert bind(document({}), Pool, prefix="accounts.pool") == Pool()
    assert bind(document({"pool": None}), Pool, prefix="pool") == Pool()


def test_any_type_binds() -> None:
    """Not only structs: a single value, or a mapping, too."""
    assert bind(document({"a": {"b": "5"}}), int, prefix="a.b") == 5
    assert bind(document({"a": {"b": "5"}}), dict[str, int], prefix="a") == {"b": 5}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"limit": "many"},
            "accounts.yml:7: key 'accounts.limit' is 'many': expected `int`, got `str`",
        ),
        ({"limit": 1, "pool": {"size": 0}}, "'accounts.pool.size' is 0: expected `int` >= 1"),
        (
            {"limit": 1, "pool": {"hosts": ["a", 5]}},
            r"'accounts.pool.hosts\[1\]' is 5: expected `str`, got `int`",
        ),
        ({}, "'accounts.limit' is missing: set it"),
        ({"limit": 1, "pool": 5}, "'accounts.pool' is 5: expected `object`, got `int`"),
        ({"limit": 1, "api_key": 12345}, r"'accounts.api_key' is \*\*\*\*\*\*: expected `str`"),
        ([], r"'accounts' is \[\]: expected `object`, got `array`"),
    ],
)
def test_errors_name_everything(config: Any, words: str) -> None:
    """An invalid value is named with key, value, expectation and origin; secrets are hidden."""
    given = document({"accounts": config}, accounts__limit="accounts.yml:7")
    with pytest.raises(ConfigurationError, match=words) as caught:
        bind(given, Accounts, prefix="accounts")
    assert "12345" not in str(caught.value)


def test_unknown_keys() -> None:
    """A key that nobody knows is refused by a strict type with its origin."""
    given = document({"a": {"limt": 1}}, a__limt="app.yml:3")
    with pytest.raises(ConfigurationError, match=r"app.yml:3: key 'a.limt' is not known here"):
        bind(given, Strict, prefix="a")


def test_unknown_keys_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Elsewhere it is ignored, but the log says so: it may be a typing error."""
    bind(document({"a": {"sice": 1}}, a__sice="app.yml:3"), Pool, prefix="a")
    assert "a.sice" in (log := capsys.readouterr().out)
    assert "app.yml:3" in log


def test_environment_wins() -> None:
    """Variables replace values of any depth, in the key's own spelling, and are the origin."""
    given = document({"accounts": {"max-limit": 5, "limit": 1}}, accounts__limit="a.yml:1")
    overridden = override(
        given,
        {
            "HEADWATER__ACCOUNTS__LIMIT": "7",
            "HEADWATER__ACCOUNTS__MAX_LIMIT": "8",
            "HEADWATER__ACCOUNTS__POOL__HOSTS": '["a", "b"]',
            "HEADWATER__": "ignored",
            "HEADWATER_LOG": "ignored",
            "HOME": "/",
        },
    )
    assert overridden.config == {
        "accounts": {"max-limit": "8", "limit": "7", "pool": {"hosts": ["a", "b"]}}
    }
    assert overridden.origins["accounts.limit"] == "environment variable HEADWATER__ACCOUNTS__LIMIT"
    with pytest.raises(ConfigurationError, match="environment variable HEADWATER__ACCOUNTS__LIMIT"):
        bind(override(given, {"HEADWATER__ACCOUNTS__LIMIT": "x"}), Accounts, prefix="accounts")
    assert override(given, {}) is given


async def test_settings_follow_changes() -> None:
    """The newest valid value is current; followers and callbacks are told, once per change."""
    config = StaticConfig({"pool": {"size": 1}}, environment={})
    as_port: Config = config
    settings: Settings[Pool] = as_port.settings(Pool, prefix="pool")
    seen: list[int] = []
    end = settings.on_change(lambda pool: seen.append(pool.size))
    async with aclosing(settings.changes()) as changes:
        assert (await anext(changes)).size == 1
        config.change({"pool": {"size": 2}})
        assert (await anext(changes)).size == 2
        config.change({"pool": {"size": 2}, "other": 1})
        config.change({"pool": {"size": 3}})
        assert (await anext(changes)).size == 3
    end()
    end()
    config.change({"pool": {"size": 4}})
    assert settings.current.size == 4
    assert seen == [2, 3]


def test_invalid_change_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid new value leaves the old one and is explained in the log."""
    config = StaticConfig({"pool": {"size": 1}}, environment={})
    settings = config.settings(Pool, prefix="pool")
    config.change({"pool": {"size": 0}})
    assert settings.current.size == 1
    assert "'pool.size' is 0" in settings.error
    assert "the old ones stay" in capsys.readouterr().out
    config.change({"pool": {"size": 2}})
    assert (settings.current.size, settings.error) == (2, "")


def test_failing_callback_harms_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """What a callback raises is logged; the others are called all the same."""
    config = StaticConfig({"pool": {"size": 1}}, environment={})
    settings = config.settings(Pool, prefix="pool")
    seen: list[Pool] = []
    settings.on_change(lambda _: 1 / 0)
    settings.on_change(seen.append)
    config.change({"pool": {"size": 2}})
    assert seen == [Pool(2)]
    assert "division by zero" in capsys.readouterr().out
