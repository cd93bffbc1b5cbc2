"""The lifecycle of an instance."""

import gc
import socket

import aiohttp
import pytest

from headwater.dispatch.remote import MessageDirectory
from headwater.errors import (
    AddressInUse,
    ConfigurationError,
    StartupError,
    StoreCorrupt,
    StoreUnavailable,
    UnknownMessage,
)
from headwater.service.runtime import Runtime
from tests.integration.service.shop import AddItem, GetItem, SellItem, make_service


async def test_commands_and_queries_in_process(runtime):
    """The buses of a running instance reach its own handlers without the network."""
    added = await runtime.commands.send(AddItem("i1", "Bach", 3))
    sold = await runtime.commands.send(SellItem("i1", 1))
    assert (added.version, sold.version) == (1, 2)
    assert (await runtime.queries.ask(GetItem("i1"), token=sold.token)).stock == 2


async def test_state_survives_a_restart(tmp_path):
    """What was acknowledged is there after a restart, in store and views."""
    given = {"data": str(tmp_path)}
    async with Runtime(make_service(), given) as first:
        await first.commands.send(AddItem("i1", "Bach", 3))
    async with Runtime(make_service(), given) as second:
        sold = await second.commands.send(SellItem("i1", 2))
        assert (await second.queries.ask(GetItem("i1"), token=sold.token)).stock == 1


async def test_roles_divide_the_service(tmp_path):
    """A command instance answers no queries and a query instance handles no commands."""
    given = {"data": str(tmp_path)}
    async with (
        Runtime(make_service(), {**given, "role": "command"}) as writing,
        Runtime(make_service(), {**given, "role": "query"}) as reading,
    ):
        added = await writing.commands.send(AddItem("i1", "Bach", 3))
        assert (await reading.queries.ask(GetItem("i1"), token=added.token)).stock == 3
        with pytest.raises(UnknownMessage):
            await writing.queries.ask(GetItem("i1"))
        with pytest.raises(UnknownMessage):
            await reading.commands.send(AddItem("i2", "Bach"))
        assert {r.kind for r in writing.edge.routes() if r.message} == {"command"}
        assert {r.kind for r in reading.edge.routes() if r.message} == {"query"}


async def test_the_collector_is_tuned_while_it_runs(tmp_path):
    """What a start has made is not looked through by full collections, until the stop."""
    given = {"discovery": ("http://127.0.0.1:9",), "start_timeout_s": 0.3}
    with pytest.raises(StartupError):
        await Runtime(make_service(), {"data": str(tmp_path), **given}).start()
    assert gc.get_freeze_count() == 0
    async with Runtime(make_service(), {"data": str(tmp_path)}):
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0


async def test_unknown_setting(tmp_path):
    """A setting that does not exist is refused with the names that do."""
    with pytest.raises(ConfigurationError, match=r"prot.*known settings are.*port"):
        Runtime(make_service(), {"data": str(tmp_path), "prot": 1})


async def test_unknown_engine(tmp_path):
    """An engine that does not exist is refused by name."""
    given = {"data": str(tmp_path), "store": "oracle:x"}
    with pytest.raises(ConfigurationError, match=r"oracle.*sqlite"):
        await Runtime(make_service(), given).start()


async def test_port_in_use(tmp_path):
    """A taken port ends the start with one error, and everything opened before is closed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        given = {"data": str(tmp_path), "port": port}
        with pytest.raises(AddressInUse, match=str(port)):
            await Runtime(make_service(), given).start()
    async with Runtime(make_service(), {"data": str(tmp_path)}):
        pass


async def test_file_that_is_no_database(tmp_path):
    """A store file with other content is named, and not touched."""
    file = tmp_path / "events.db"
    file.write_bytes(b"these are not events" * 100)
    with pytest.raises(StoreCorrupt, match=r"events\.db"):
        await Runtime(make_service(), {"store": f"sqlite:{file}"}).start()
    assert file.read_bytes().startswith(b"these are not events")


async def test_directory_that_cannot_be_made(tmp_path):
    """A data directory below a file is refused with its path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        await Runtime(make_service(), {"data": str(tmp_path / "file" / "below")}).start()


@pytest.mark.parametrize("platform", ["discovery", "config"])
async def test_platform_out_of_reach(tmp_path, platform):
    """A service that cannot reach a platform service at its start says which and where."""
    given = {
        "data": str(tmp_path),
        platform: ("http://127.0.0.1:9",),
        "start_timeout_s": 0.3,
    }
    with pytest.raises(StartupError, match=r"127\.0\.0\.1:9"):
        await Runtime(make_service(), given).start()


async def test_message_that_nobody_registered(runtime):
    """A message that no service declares is unknown, not unavailable."""
    with pytest.raises(UnknownMessage, match="Nothing"):
        MessageDirectory(runtime.discovery).service_of("Nothing")


async def test_every_role_documents_the_whole_service(tmp_path):
    """The OpenAPI document has commands and queries, whichever side an instance runs."""
    for role in ("command", "query"):
        given = {"data": str(tmp_path), "role": role}
        async with Runtime(make_service(), given) as one, aiohttp.ClientSession(one.url) as http:
            async with http.get("/openapi.json") as answer:
                paths = (await answer.json())["paths"]
            assert set(paths["/items"]) == {"get", "post"}


async def test_segments_can_be_set(tmp_path):
    """A deployment can divide a processor's work otherwise than its class says."""
    async with Runtime(make_service(), {"data": str(tmp_path), "segments": 7}) as running:
        assert len(await running.views.segments("items")) == 7
