"""Configuration server and client, over real HTTP and real files."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from yarl import URL

from headwater._http.sse import decode_events
from headwater.config.client import ConfigClient
from headwater.config.server import ConfigServer, serve
from headwater.errors import AddressInUse, ConfigurationError, StartupError
from tests.ports import HeldPort


class Pool(msgspec.Struct):
    size: int = 4


async def until(condition: Callable[[], object], within_s: float = 60.0) -> None:
    """Return when a condition holds; fail when it does not in time."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what happens in files and sockets sends no event
            await asyncio.sleep(0.005)


def replace(path: Path, content: str) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(content)
    temporary.replace(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    directory = tmp_path / "settings"
    directory.mkdir()
    (directory / "application.yml").write_text("pool:\n  size: 1\ndb.password: hush\n")
    return directory


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[ConfigServer]:
    server = ConfigServer(folder, environment={}, heartbeat_s=0.2, settle_s=0.03)
    async with server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


def client_of(server: ConfigServer, **options: Any) -> ConfigClient:
    return ConfigClient(server.url, "accounts", environment={}, **options)


async def test_document(server: ConfigServer, http: aiohttp.ClientSession) -> None:
    """The effective document, with its version as ETag, is answered 304 when it is known."""
    url = f"{server.url}/v1/config/accounts/dev,eu/some/label"
    async with http.get(url) as answer:
        assert answer.status == 200
        document = await answer.json()
    assert document["config"] == {"pool": {"size": 1}, "db": {"password": "hush"}}
    assert document["profiles"] == ["dev", "eu"]
    assert (document["label"], document["requested_label"]) == ("", "some/label")
    assert document["sources"] == [{"name": "application.yml", "keys": 2}]
    assert answer.headers["ETag"] == f'"{document["version"]}"'
    async with http.get(url, headers={"If-None-Match": answer.headers["ETag"]}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with http.get(url, headers={"If-None-Match": '"other"'}) as answer:
        assert answer.status == 200


async def test_watch(server: ConfigServer, http: aiohttp.ClientSession, folder: Path) -> None:
    """A watch sends the document, then again only when what is effective has changed."""
    async with http.get(f"{server.url}/v1/watch/accounts/default") as answer:
        events = decode_events(answer.content.iter_any())

        async def following() -> dict[str, Any]:
            while (event := await anext(events)) is None:
                pass
            document: dict[str, Any] = msgspec.json.decode(event.data)
            assert (event.name, event.id) == ("config", document["version"])
            return document["config"]

        assert (await following())["pool"] == {"size": 1}
        replace(folder / "other.yml", "pool.size: 9\n")
        replace(folder / "application.yml", "# the same\npool:\n  size: 1\ndb.password: hush\n")
        await until(lambda: len(server.repository.files()) == 2)
        replace(folder / "accounts.yml", "pool.size: 2\n")
        assert (await following())["pool"] == {"size": 2}


async def test_watch_skips_what_is_known(
    server: ConfigServer, http: aiohttp.ClientSession, folder: Path
) -> None:
    """A watcher that has the current version gets only later ones."""
    version = server.repository.document("accounts", ("default",)).version
    headers = {"Last-Event-ID": version}
    async with http.get(f"{server.url}/v1/watch/accounts/default", headers=headers) as answer:
        events = decode_events(answer.content.iter_any())
        assert [await anext(events), await anext(events)] == [None, None]
        replace(folder / "accounts.yml", "pool.size: 2\n")
        while (event := await anext(events)) is None:
            pass
        assert event.id != version


async def test_bad_file_keeps_old(
    server: ConfigServer,
    http: aiohttp.ClientSession,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A bad file is refused with its line, in the status, the page and the log; the old stays."""
    (folder / "application.yml").write_text("pool:\n  size: [1\nx: 1\n")
    await until(server.repository.errors)
    async with http.get(f"{server.url}/v1/status") as answer:
        status = await answer.json()
    assert status["status"] == "refused"
    assert "application.yml:3: " in status["errors"]["application.yml"]
    async with http.get(server.url) as answer:
        assert "application.yml:3: " in await answer.text()
    async with http.get(f"{server.url}/v1/config/accounts/default") as answer:
        document = await answer.json()
    assert document["config"]["pool"] == {"size": 1}
    assert "application.yml:3: " in document["error"]
    assert "the last good content stays" in capsys.readouterr().out
    (folder / "application.yml").write_text("pool.size: 5\n")
    await until(lambda: not server.repository.errors())
    async with http.get(f"{server.url}/v1/status") as answer:
        assert (await answer.json())["status"] == "good"


async def test_page_masks_secrets(server: ConfigServer, http: aiohttp.ClientSession) -> None:
    """The overview page shows keys and values, but no secret."""
    async with http.get(server.url) as answer:
        assert answer.content_type == "text/html"
        page = await answer.text()
    assert "pool.size" in page
    assert "db.password" in page
    assert "hush" not in page
    assert "src=" not in page


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v1/config/accounts", 404, "no route"),
        ("GET", "/v1/config/acc%20ounts/dev", 400, "application 'acc ounts' is no name"),
        ("GET", "/v1/config/accounts/dev,,x", 400, "profile '' is no name"),
        ("GET", "/v1/config/accounts/dev/../../x", 400, "label '..' is no name"),
        ("GET", "/v1/watch/accounts/-", 400, "profile '-' is no name"),
        ("GET", "/v1/config/bad/dev", 500, "bad.yml:1: "),
        ("GET", "/v1/watch/bad/dev", 500, "bad.yml:1: "),
        ("POST", "/v1/config/accounts/dev", 405, "allowed are"),
    ],
)
async def test_bad_requests(
    folder: Path, http: aiohttp.ClientSession, method: str, path: str, status: int, words: str
) -> None:
    """Whatever is wrong is answered with a problem document that says what."""
    (folder / "bad.yml").write_text("- 1\n")
    async with ConfigServer(folder, environment={}) as server:
        url = URL(server.url + path, encoded=True)
        async with http.request(method, url) as answer:
            problem = await answer.json(content_type=None)
            assert (answer.status, answer.content_type) == (status, "application/problem+json")
    assert words in problem["detail"]


async def test_health(server: ConfigServer, http: aiohttp.ClientSession) -> None:
    """Live and ready once it serves."""
    for path in ("live", "ready"):
        async with http.get(f"{server.url}/health/{path}") as answer:
            assert (answer.status, (await answer.json())["status"]) == (200, path)


async def test_taken_port(server: ConfigServer, folder: Path) -> None:
    """A taken port is a clear error at start."""
    with pytest.raises(AddressInUse, match=str(server.port)):
        await serve(folder, port=server.port)


async def test_live_change_reaches_settings(server: ConfigServer, folder: Path) -> None:
    """A change of a file reaches the typed settings of a running process."""
    async with client_of(server) as client:
        settings = client.settings(Pool, prefix="pool")
        assert settings.current == Pool(1)
        async with aclosing(settings.changes()) as changes:
            assert await anext(changes) == Pool(1)
            replace(folder / "accounts.yml", "pool.size: 2\n")
            async with asyncio.timeout(30):
                assert await anext(changes) == Pool(2)


async def test_invalid_live_change_is_refused(server: ConfigServer, folder: Path) -> None:
    """A value that does not fit the type is refused by the process; the old one stays."""
    async with client_of(server) as client:
        settings = client.settings(Pool, prefix="pool")
        replace(folder / "accounts.yml", "pool.size: many\n")
        await until(lambda: settings.error)
        assert "accounts.yml:1: key 'pool.size' is 'many'" in settings.error
        assert settings.current == Pool(1)
        replace(folder / "accounts.yml", "pool.size: 3\n")
        await until(lambda: settings.current == Pool(3))


async def test_environment_wins_over_the_server(server: ConfigServer, folder: Path) -> None:
    """An override of the process holds, also after the file changes."""
    environment = {"HEADWATER__POOL__SIZE": "7"}
    async with ConfigClient(server.url, "accounts", environment=environment) as client:
        settings = client.settings(Pool, prefix="pool")
        version = client.document.version
        replace(folder / "accounts.yml", "pool.size: 2\n")
        await until(lambda: client.document.version != version)
        assert settings.current == Pool(7)


async def test_profiles_and_label(server: ConfigServer, folder: Path) -> None:
    """Profiles and label reach the server as given."""
    (folder / "v2").mkdir()
    (folder / "v2" / "accounts-eu.yml").write_text("pool.size: 8\n")
    await until(lambda: len(server.repository.files()) == 2)
    async with client_of(server, profiles="dev, eu", label="v2") as client:
        assert client.bind(Pool, prefix="pool") == Pool(8)
        assert (client.document.profiles, client.document.label) == (("dev", "eu"), "v2")


async def test_process_outlives_the_server(folder: Path) -> None:
    """A process keeps its settings while the server is away, and follows it when it is back."""
    with HeldPort() as port:
        server = ConfigServer(folder, port=port, environment={})
        await server.start()
        async with client_of(server) as client:
            settings = client.settings(Pool, prefix="pool")
            await server.stop()
            await until(lambda: not client.url)
            assert settings.current == Pool(1)
            replace(folder / "accounts.yml", "pool.size: 2\n")
            async with ConfigServer(folder, port=port, environment={}):
                await until(lambda: settings.current == Pool(2))


async def test_unreachable_at_start() -> None:
    """A server that is not there is named at start, with what to do."""
    client = ConfigClient("http://127.0.0.1:9", "accounts", start_timeout_s=0.2)
    with pytest.raises(StartupError, match=r"configuration at http://127.0.0.1:9: no answer") as e:
        await client.load()
    assert "start the configuration service, or correct its URL" in str(e.value)
    await client.close()


async def test_refused_file_is_named_at_start(folder: Path) -> None:
    """When the server cannot serve the application, the start fails with the file and line."""
    (folder / "accounts.yml").write_text("- 1\n")
    async with ConfigServer(folder, environment={}) as server:
        client = client_of(server, start_timeout_s=0.3)
        with pytest.raises(StartupError, match=r"accounts.yml:1: the top is a list"):
            await client.load()
        await client.close()


async def test_start_from_the_local_copy(server: ConfigServer, tmp_path: Path) -> None:
    """An optional server may be away at start once a process has loaded from it."""
    options = {"optional": True, "cache_file": tmp_path / "cache" / "accounts.json"}
    async with client_of(server, **options):
        pass
    assert options["cache_file"].stat().st_mode & 0o077 == 0
    away = ConfigClient("http://127.0.0.1:9", "accounts", start_timeout_s=0.2, **options)
    await away.load()
    assert away.bind(Pool, prefix="pool") == Pool(1)
    await away.close()


async def test_local_copy_is_left_for_the_server(folder: Path, tmp_path: Path) -> None:
    """A process that started from its local copy follows the server as soon as it is back."""
    options: dict[str, Any] = {"optional": True, "cache_file": tmp_path / "accounts.json"}
    with HeldPort() as port:
        server = ConfigServer(folder, port=port, environment={})
        async with server, client_of(server, **options):
            pass
        (folder / "accounts.yml").write_text("pool.size: 2\n")
        async with client_of(server, start_timeout_s=0.2, **options) as client:
            settings = client.settings(Pool, prefix="pool")
            assert settings.current == Pool(1)
            async with ConfigServer(folder, port=port, environment={}):
                await until(lambda: settings.current == Pool(2))


@pytest.mark.parametrize("content", [None, "{", "[]", "\x00"])
async def test_no_usable_local_copy(tmp_path: Path, content: str | None) -> None:
    """Without a usable local copy the start fails and says so."""
    path = tmp_path / "accounts.json"
    if content is not None:
        path.write_text(content)
    client = ConfigClient(
        "http://127.0.0.1:9", "accounts", start_timeout_s=0.1, optional=True, cache_file=path
    )
    with pytest.raises(StartupError, match=r"accounts.json (does not exist yet|cannot be used)"):
        await client.load()
    await client.close()


def test_wrong_declarations() -> None:
    """What cannot work is refused before anything is requested."""
    with pytest.raises(ConfigurationError, match="is not a URL"):
        ConfigClient("nowhere", "accounts")
    with pytest.raises(ConfigurationError, match="optional needs a cache_file"):
        ConfigClient("http://127.0.0.1:9", "accounts", optional=True)
