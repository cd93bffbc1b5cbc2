"""Discovery without a registry service."""

from contextlib import aclosing

import pytest

from headwater.discovery import Discovery, Instance, LocalDiscovery, StaticDiscovery
from headwater.discovery.registry import Registry
from headwater.errors import ConfigurationError, MalformedMessage

ONE = Instance(service="accounts", id="a-1", host="127.0.0.1", port=8001)


async def test_local_registration_is_visible_at_once() -> None:
    """What is registered is found at once, by everyone who shares the registry."""
    registry = Registry()
    mine: Discovery = LocalDiscovery(registry)
    other: Discovery = LocalDiscovery(registry)
    await mine.register(ONE)
    assert [i.url for i in other.instances("accounts")] == ["http://127.0.0.1:8001"]
    await mine.close()
    assert other.services() == {}
    await mine.close()


async def test_local_changes_are_pushed() -> None:
    """A follower sees the present at once, then every later state."""
    mine, other = LocalDiscovery(registry := Registry()), LocalDiscovery(registry)
    async with aclosing(other.changes()) as changes:
        assert await anext(changes) == {}
        await mine.register(ONE)
        assert [i.id for i in (await anext(changes))["accounts"]] == ["a-1"]
        await mine.deregister("a-1")
        assert await anext(changes) == {}
    await mine.deregister("a-1")


async def test_local_refuses_nonsense() -> None:
    """The same rules hold as at the registry service."""
    with pytest.raises(MalformedMessage, match="port is 0"):
        await LocalDiscovery().register(Instance(service="a", id="a", host="h", port=0))


async def test_static_knows_urls() -> None:
    """URLs become live instances; registering changes nothing."""
    static: Discovery = StaticDiscovery(
        {"accounts": ["http://h:1", "https://secure.example"], "own": [ONE]}
    )
    await static.register(ONE)
    assert [i.url for i in static.instances("accounts", role="query")] == [
        "http://h:1",
        "https://secure.example:443",
    ]
    assert [i.id for i in static.instances("own")] == ["a-1"]
    async with aclosing(static.changes()) as changes:
        assert set(await anext(changes)) == {"accounts", "own"}
    await static.close()


def test_static_refuses_what_is_no_url() -> None:
    """A text that is no URL is refused with an example of one."""
    with pytest.raises(ConfigurationError, match=r"'localhost' is no URL: use http://host:port"):
        StaticDiscovery({"accounts": ["localhost"]})


def test_url_of_an_ipv6_address() -> None:
    """An IPv6 address stands in brackets in the URL."""
    assert Instance(service="a", id="a", host="::1", port=80).url == "http://[::1]:80"
