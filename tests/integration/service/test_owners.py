"""A database remembers which service it belongs to, and no other one starts on it."""

import asyncio
from pathlib import Path

import apsw
import pytest

from headwater._sql.postgres.url import Place
from headwater.errors import ConfigurationError, ImportRefused
from headwater.eventstore.copy import copy_store
from headwater.eventstore.memory import MemoryEventStore
from headwater.service import Service
from headwater.service.engines import open_event_store
from headwater.service.runtime import Runtime
from tests.integration.cli.conftest import headwater, one_line_error
from tests.integration.service.shop import AddItem, GetItem, Item, Items, SellItem
from tests.postgres_server import POSTGRES, execute

ROOT = Path(__file__).parents[3]
ONE, OTHER = "order-items", "order_items"
Settings = dict[str, str]


def service(name: str) -> Service:
    """Return a service of this name; all have the same classes."""
    return Service(name, aggregates=[Item], projections=[Items])


shop = service("shop")


@pytest.fixture(params=["sqlite", POSTGRES])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Return settings that put the data of any service into one place."""
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres_url")
        return {"data": str(tmp_path), "store": url, "views": url}
    return {
        "data": str(tmp_path),
        "store": f"sqlite:{tmp_path}/events.db",
        "views": f"sqlite:{tmp_path}/views.db",
    }


async def test_another_service_is_refused(place: Settings) -> None:
    """The second of two services in one place is refused at its start; the first goes on."""
    async with Runtime(service(ONE), place) as first:
        await first.commands.send(AddItem("i1", "Bach", 3))
    with pytest.raises(ConfigurationError) as refused:
        await Runtime(service(OTHER), place).start()
    assert f"belongs to service {ONE!r}, not to {OTHER!r}" in str(refused.value)
    assert "?schema=NAME in the URL, or another path" in str(refused.value)
    async with Runtime(service(ONE), place) as again:
        sold = await again.commands.send(SellItem("i1", 1))
        assert (await again.queries.ask(GetItem("i1"), token=sold.token)).stock == 2


@pytest.mark.parametrize("engine", ["store", "views"])
async def test_each_engine_has_its_owner(place: Settings, engine: str) -> None:
    """It is enough that one of the two is another service's."""
    async with Runtime(service(ONE), place):
        pass
    mixed = {"data": place["data"], engine: place[engine]}
    with pytest.raises(ConfigurationError, match=f"belongs to service '{ONE}'"):
        await Runtime(service(OTHER), mixed).start()


async def test_instances_share(place: Settings) -> None:
    """Instances of one service share their databases, whatever their role and region."""
    command = {**place, "role": "command"}
    region = {**place, "role": "query", "views": f"sqlite:{place['data']}/region/views.db"}
    async with (
        Runtime(service(ONE), command) as writing,
        Runtime(service(ONE), {**place, "role": "query"}) as reading,
        Runtime(service(ONE), region) as elsewhere,
    ):
        added = await writing.commands.send(AddItem("i1", "Bach", 3))
        for one in (reading, elsewhere):
            assert (await one.queries.ask(GetItem("i1"), token=added.token)).stock == 3


async def test_of_two_that_start_at_once_one_gets_it(place: Settings) -> None:
    """Two services that start on a new place at the same time do not both get it."""
    services = [Runtime(service(name), place) for name in (ONE, OTHER)]
    found = await asyncio.gather(*(one.start() for one in services), return_exceptions=True)
    refused = [error for error in found if error is not None]
    try:
        assert len(refused) >= 1
        assert all(isinstance(error, ConfigurationError) for error in refused)
        assert all("belongs to service" in str(error) for error in refused)
    finally:
        for one, error in zip(services, found, strict=True):
            if error is None:
                await one.stop()


def forget_owners(place: Settings) -> None:
    """Make the databases as programs left them that stored no owner."""
    statement = "DROP TABLE headwater_owners"
    if place["store"].startswith("sqlite:"):
        for engine in ("store", "views"):
            connection = apsw.Connection(place[engine].partition(":")[2])
            connection.execute(statement)
            connection.close()
    else:
        where = Place.parse(place["store"])
        execute(where.dsn, statement.replace(" headwater", f' "{where.schema}".headwater'))


async def test_what_was_stored_before_is_adopted(place: Settings) -> None:
    """A database without an owner, events and all, belongs to the first that starts on it."""
    async with Runtime(service(ONE), place) as first:
        await first.commands.send(AddItem("i1", "Bach", 3))
    await asyncio.to_thread(forget_owners, place)
    async with Runtime(service(OTHER), place) as adopting:
        assert (await adopting.commands.send(SellItem("i1", 1))).version == 2
    with pytest.raises(ConfigurationError, match=f"belongs to service '{OTHER}', not to '{ONE}'"):
        await Runtime(service(ONE), place).start()


async def test_a_copy_belongs_to_the_same_service(place: Settings, tmp_path: Path) -> None:
    """The copy of a store is its service's, and what is another's is not copied to."""
    async with Runtime(service(ONE), place) as first:
        await first.commands.send(AddItem("i1", "Bach", 3))
    source = await open_event_store(place["store"])
    copy, foreign = MemoryEventStore(), MemoryEventStore()
    await copy_store(source, copy)
    assert await copy.owner() == ONE
    await foreign.settle_owner(OTHER)
    with pytest.raises(ImportRefused, match=f"belongs to service '{OTHER}', the source to '{ONE}'"):
        await copy_store(source, foreign)
    assert await foreign.head() == 0
    await source.close()


async def test_nobody_looks_after_the_processors_of_another(place: Settings) -> None:
    """Commands for processors refuse a database that is another service's."""
    async with Runtime(service(ONE), place):
        pass
    file = Path(place["data"]) / "headwater.toml"
    urls = "\n".join(f'{engine} = "{place[engine]}"' for engine in ("store", "views"))
    file.write_text(
        '[system]\nname = "s"\n[services.shop]\n'
        'app = "tests.integration.service.test_owners:shop"\n[services.shop.settings]\n' + urls
    )
    done = await asyncio.to_thread(headwater, "processors", "--file", file, cwd=ROOT)
    assert f"belongs to service '{ONE}', not to 'shop'" in one_line_error(done, code=2)
