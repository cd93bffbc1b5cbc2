"""The suite that every implementation of `headwater.discovery.Discovery` passes.

A test module::

    class TestMyDiscovery(DiscoveryConformance):
        @asynccontextmanager
        async def open_pair(self):
            async with my_registry() as registry:
                yield MyDiscovery(registry), MyDiscovery(registry)
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, cast

import pytest
import pytest_asyncio

from headwater.discovery import Discovery, Instance, RouteInfo
from headwater.errors import AddressTaken, MalformedMessage

WAIT_S_MAX = 30.0

Services = Mapping[str, tuple[Instance, ...]]


def instance(id: str = "accounts-1", **fields: Any) -> Instance:
    """Return an instance with all its parts in use, at an address of its own."""
    values: dict[str, Any] = {
        "service": "accounts",
        "host": "127.0.0.1",
        "port": 1024 + zlib.crc32(id.encode()) % 60_000,
        "zone": "north",
        "version": "1.2",
        "weight": 3,
        "routes": (RouteInfo("GET", "/accounts/{id}", "query", "GetAccount", "id"),),
        "metadata": {"team": "bank"},
        "started": 1_700_000_000_000_000,
    }
    return Instance(id=id, **(values | fields))


async def reach(discovery: Discovery, condition: Callable[[Services], bool]) -> Services:
    """Follow the changes until a condition holds; fail when it does not in time."""
    async with asyncio.timeout(WAIT_S_MAX), _closing(discovery.changes()) as changes:
        async for services in changes:
            if condition(services):
                return services
    raise AssertionError("the changes ended")


def _closing(changes: AsyncIterator[Services]) -> "aclosing[AsyncGenerator[Services, None]]":
    return aclosing(cast("AsyncGenerator[Services, None]", changes))


def _ids(services: Services) -> list[str]:
    return [found.id for found in services.get("accounts", ())]


class DiscoveryConformance:
    """Subclass it and say how to open two views of one registry, as two processes have them."""

    pytestmark = pytest.mark.asyncio

    def open_pair(self) -> AbstractAsyncContextManager[tuple[Discovery, Discovery]]:
        """Open them; both are closed by the suite, the registry by the context."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def pair(self) -> AsyncIterator[tuple[Discovery, Discovery]]:
        """Open the two, and close them afterwards."""
        async with self.open_pair() as (mine, other):
            yield mine, other
            await mine.close()
            await other.close()

    async def test_registration_is_seen_by_others(self, pair: tuple[Discovery, Discovery]) -> None:
        """What one registers another sees, with all its parts and a revision."""
        mine, other = pair
        await mine.register(instance())
        services = await reach(other, lambda services: _ids(services) == ["accounts-1"])
        (found,) = services["accounts"]
        assert found.revision > 0
        assert found == instance(revision=found.revision, since=found.since)
        assert 0 < found.since <= found.revision
        assert other.instances("accounts") == (found,)
        assert other.services() == {"accounts": (found,)}

    async def test_update_replaces(self, pair: tuple[Discovery, Discovery]) -> None:
        """An update replaces the registration of the same id; only UP ones are live."""
        mine, other = pair
        await mine.register(instance())
        await mine.update(instance(status="DRAINING"))
        services = await reach(
            other, lambda s: [i.status for i in s.get("accounts", ())] == ["DRAINING"]
        )
        assert _ids(services) == ["accounts-1"]
        assert other.instances("accounts") == ()

    async def test_registering_again_replaces(self, pair: tuple[Discovery, Discovery]) -> None:
        """A second registration of an id replaces the first."""
        mine, other = pair
        await mine.register(instance(port=1))
        await mine.register(instance(port=2))
        await reach(other, lambda s: [i.port for i in s.get("accounts", ())] == [2])

    async def test_an_address_has_one_instance(self, pair: tuple[Discovery, Discovery]) -> None:
        """Who registers at an address removes who was there, whatever their services."""
        mine, other = pair
        await mine.register(instance("old", port=1))
        await mine.register(instance("neighbour", port=2))
        await reach(other, lambda services: len(_ids(services)) == 2)
        await other.register(instance("new", service="cards", port=1))
        for view in pair:
            services = await reach(view, lambda s: "cards" in s and _ids(s) == ["neighbour"])
            assert [i.id for i in services["cards"]] == ["new"]
        assert mine.instances("cards")[0].since > mine.instances("accounts")[0].since

    async def test_a_lost_address_is_not_taken_back(
        self, pair: tuple[Discovery, Discovery]
    ) -> None:
        """Who lost its address gets it again only when the later one is gone: nothing flaps."""
        mine, other = pair
        await mine.register(instance("old", port=1))
        await reach(other, lambda services: _ids(services) == ["old"])
        await other.register(instance("new", port=1))
        for view in pair:
            await reach(view, lambda services: _ids(services) == ["new"])
        with pytest.raises(
            AddressTaken, match=r"'old' says .* 127.0.0.1:1, where accounts \(new\)"
        ):
            await mine.register(instance("old", port=1, version="again"))
        await other.deregister("new")
        await reach(mine, lambda services: "new" not in _ids(services))
        await mine.register(instance("old", port=1, version="again"))
        await reach(other, lambda services: _ids(services) == ["old"])

    async def test_deregistration(self, pair: tuple[Discovery, Discovery]) -> None:
        """A removed instance is gone everywhere; removing it again, or an unknown one, is fine."""
        mine, other = pair
        await mine.register(instance())
        await reach(other, lambda services: _ids(services) == ["accounts-1"])
        await mine.deregister("accounts-1")
        await mine.deregister("accounts-1")
        await mine.deregister("unknown")
        assert await reach(other, lambda services: not services) == {}

    async def test_roles(self, pair: tuple[Discovery, Discovery]) -> None:
        """Who asks for a role gets those of that role and those of role all, ordered by id."""
        mine, other = pair
        for role in ("query", "command", "all"):
            await mine.register(instance(role, role=role))
        await reach(other, lambda services: len(_ids(services)) == 3)
        assert [i.id for i in other.instances("accounts", role="query")] == ["all", "query"]
        assert [i.id for i in other.instances("accounts")] == ["all", "command", "query"]
        assert other.instances("nobody") == ()

    async def test_changes_begin_with_the_present(self, pair: tuple[Discovery, Discovery]) -> None:
        """A follower gets what is known at once, without waiting for a change."""
        mine, other = pair
        await mine.register(instance())
        await reach(other, lambda services: _ids(services) == ["accounts-1"])
        async with asyncio.timeout(WAIT_S_MAX), _closing(other.changes()) as changes:
            assert _ids(await anext(changes)) == ["accounts-1"]

    async def test_answers_do_not_change(self, pair: tuple[Discovery, Discovery]) -> None:
        """A mapping that was returned stays as it is when the registry changes."""
        mine, _ = pair
        await mine.register(instance("a"))
        before = await reach(mine, lambda services: _ids(services) == ["a"])
        await mine.register(instance("b"))
        await reach(mine, lambda services: _ids(services) == ["a", "b"])
        assert _ids(before) == ["a"]

    async def test_nonsense_is_refused(self, pair: tuple[Discovery, Discovery]) -> None:
        """An instance without a sensible port is refused with the reason, and not listed."""
        mine, other = pair
        with pytest.raises(MalformedMessage, match="port is 0, expected a number from 1 to 65535"):
            await mine.register(instance("bad", port=0))
        await mine.register(instance("good"))
        assert _ids(await reach(other, bool)) == ["good"]

    async def test_close_removes(self, pair: tuple[Discovery, Discovery]) -> None:
        """Closing removes what was registered here, and nothing else; twice is fine."""
        mine, other = pair
        await mine.register(instance("mine"))
        await other.register(instance("other"))
        await reach(other, lambda services: _ids(services) == ["mine", "other"])
        await mine.close()
        await mine.close()
        await reach(other, lambda services: _ids(services) == ["other"])


__all__ = ["DiscoveryConformance", "instance", "reach"]
