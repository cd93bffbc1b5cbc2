"""Several configuration servers on one database: real processes, live clients, a server away."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from headwater.config.client import ConfigClient
from headwater.config.postgres import PostgresSettingsStore
from headwater.config.server import ConfigServer
from headwater.errors import SettingsConflict
from tests.postgres_server import PostgresServer, execute

WAIT_S_MAX = 30.0
HEADWATER = [sys.executable, "-m", "headwater.cli"]


class Pool(msgspec.Struct):
    size: int = 0


async def until(condition: Callable[[], object]) -> None:
    """Return when a condition holds; fail when it does not in time."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not condition():  # noqa: ASYNC110 - what happens in other processes sends no event
            await asyncio.sleep(0.01)


def pool(size: int) -> dict[str, bytes]:
    return {"accounts.yml": b"pool.size: %d\n" % size}


class Served:
    """A running `headwater run config`, its log in a file."""

    def __init__(self, folder: Path, url: str, *, directory: Path) -> None:
        self.log_file = folder / f"config-{time.monotonic_ns()}.log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(*HEADWATER, "run", "config", "--port", "0", "--log-level", "info"),
                    *("--set", f"directory={directory}", "--set", f"database={url}"),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "NO_COLOR": "1"},
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    async def url(self) -> str:
        """Return where it listens, once it does."""
        await until(lambda: "configuration is up" in self.log or self.process.poll() is not None)
        found = re.search(r"configuration is up .*url=(\S+)", self.log)
        assert found, self.log
        return found[1]

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S_MAX)


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path, postgres_url: str) -> Iterator[Serve]:
    """Return a function that starts a server on the database of this test."""
    started: list[Served] = []

    def start(directory: Path | None = None) -> Served:
        started.append(Served(tmp_path, postgres_url, directory=directory or tmp_path / "none"))
        return started[-1]

    yield start
    for running in started:
        assert running.end() == 0, running.log


def settings_folder(tmp_path: Path, content: str = "pool.size: 1\n") -> Path:
    directory = tmp_path / "config"
    directory.mkdir()
    (directory / "accounts.yml").write_text(content)
    return directory


async def test_a_change_reaches_the_clients_of_all_servers(postgres_url: str, serve: Serve) -> None:
    """What a third process pushes arrives in the live settings of the clients of both servers."""
    first, second = serve(), serve()
    urls = [await first.url(), await second.url()]
    store = await PostgresSettingsStore.open(postgres_url)
    await store.push(pool(1), expected=0)
    async with (
        ConfigClient(urls[0], "accounts", environment={}) as one,
        ConfigClient(urls[1], "accounts", environment={}) as two,
    ):
        settings = [client.settings(Pool, prefix="pool") for client in (one, two)]
        for size in (2, 3):
            await store.push(pool(size), expected=size - 1)
            await until(lambda size=size: all(s.current == Pool(size) for s in settings))
        assert one.document == two.document
    await store.close()


async def test_first_start(tmp_path: Path, postgres_url: str, serve: Serve) -> None:
    """An empty database gets the directory's files as one change, however many servers start."""
    directory = settings_folder(tmp_path)
    (directory / "application.toml").write_text("a = 1\n")
    servers = [serve(directory), serve(directory)]
    for server in servers:
        async with ConfigClient(await server.url(), "accounts", environment={}) as client:
            assert client.document.config == {"a": 1, "pool": {"size": 1}}
    store = await PostgresSettingsStore.open(postgres_url)
    (change,) = await store.history()
    assert change.added == ("accounts.yml", "application.toml")
    assert change.comment == f"first start, from {directory}"
    await store.close()


async def test_later_the_database_counts(tmp_path: Path, postgres_url: str, serve: Serve) -> None:
    """A directory that differs changes nothing; the log says so at start, and at each edit."""
    store = await PostgresSettingsStore.open(postgres_url)
    await store.push(pool(7), expected=0)
    server = serve(settings_folder(tmp_path))
    async with ConfigClient(await server.url(), "accounts", environment={}) as client:
        assert client.bind(Pool, prefix="pool") == Pool(7)
        await until(lambda: server.log.count("the directory differs from it") == 1)
        assert "accounts.yml" in server.log
        (tmp_path / "config" / "accounts.yml").write_text("pool.size: 5\n")
        await until(lambda: server.log.count("the directory differs from it") == 2)
        assert client.bind(Pool, prefix="pool") == Pool(7)
    assert len(await store.history()) == 1
    await store.close()


def test_bad_directory_at_first_start(tmp_path: Path, postgres_url: str) -> None:
    """A bad file in the directory ends the first start with its line; nothing is stored."""
    directory = settings_folder(tmp_path, "a: 1\na: 2\n")
    server = Served(tmp_path, postgres_url, directory=directory)
    assert server.process.wait(WAIT_S_MAX) == 2
    assert "error: accounts.yml:2: key 'a' is given twice" in server.log
    schema = postgres_url.partition("schema=")[2]
    assert execute(postgres_url, f"SELECT count(*) FROM {schema}.config_changes") == 0


def test_database_away_at_start(tmp_path: Path, own_postgres: PostgresServer) -> None:
    """Without its database the start ends soon, and says why."""
    own_postgres.stop()
    server = Served(tmp_path, own_postgres.url(), directory=tmp_path)
    assert server.process.wait(WAIT_S_MAX) == 75
    assert re.search(r"error: store .* is unavailable: the server cannot be reached", server.log)
    assert "Traceback" not in server.log


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_database_away_while_serving(
    own_postgres: PostgresServer, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server goes on with what it has, says so, and has everything when the database is back."""
    url = own_postgres.url()
    store = await PostgresSettingsStore.open(url)
    await store.push(pool(1), expected=0)
    server = ConfigServer(await PostgresSettingsStore.open(url), environment={})
    async with (
        server,
        ConfigClient(server.url, "accounts", environment={}) as client,
        aiohttp.ClientSession() as http,
    ):
        settings = client.settings(Pool, prefix="pool")
        await asyncio.to_thread(getattr(own_postgres, how))
        await until(lambda: server.repository.state.error)
        async with http.get(f"{server.url}/health/ready") as answer:
            health = await answer.json()
        assert (answer.status, health["status"], health["files"]) == (200, "ready", 1)
        assert "is unavailable" in health["behind"]
        async with http.get(f"{server.url}/v1/status") as answer:
            assert store.name in (await answer.json())["errors"]
        assert "out of reach, what is known is served" in capsys.readouterr().out
        async with ConfigClient(server.url, "accounts", environment={}) as late:
            assert late.bind(Pool, prefix="pool") == Pool(1)
        await asyncio.to_thread(own_postgres.start)
        await store.push(pool(2), expected=1)
        await until(lambda: settings.current == Pool(2))
        async with http.get(f"{server.url}/health/ready") as answer:
            assert "behind" not in await answer.json()
    await store.close()


async def test_only_wake_ups_are_sent(postgres_url: str) -> None:
    """A server that misses every wake-up finds out by itself: nothing depends on them."""
    store = await PostgresSettingsStore.open(postgres_url)
    await store.push(pool(1), expected=0)
    source = await PostgresSettingsStore.open(postgres_url)
    source._database.wake._on_notify = lambda *_: None  # type: ignore[method-assign] # deaf
    async with ConfigServer(source, environment={}) as server:
        await store.push(pool(2), expected=1)
        await until(lambda: server.repository.state.contents() == pool(2))
    await store.close()


async def test_a_database_that_was_put_back_is_noticed(postgres_url: str) -> None:
    """A restored backup with as many changes, but others, is served."""
    store = await PostgresSettingsStore.open(postgres_url)
    await store.push(pool(1), expected=0)
    source = await PostgresSettingsStore.open(postgres_url)
    async with ConfigServer(source, environment={}) as server:
        await until(lambda: server.repository.state.change == 1)
        async with store._database.transaction() as connection:
            await connection.execute(
                "UPDATE config_files SET content = 'pool.size: 9'; "
                "UPDATE config_changes SET recorded = recorded - interval '1 day'"
            )
        await until(lambda: server.repository.state.contents() == {"accounts.yml": b"pool.size: 9"})
    await store.close()


async def test_pushes_of_several_processes(tmp_path: Path, postgres_url: str) -> None:
    """Of operators who push at once, one is stored, and each of the others is told by whom."""
    store = await PostgresSettingsStore.open(postgres_url)
    await store.push(pool(1), expected=0)
    copies = [tmp_path / f"copy{n}" for n in range(3)]

    async def headwater(*arguments: str | Path) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(*HEADWATER, "config", *map(str, arguments), "--database", postgres_url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    for code, output in await asyncio.gather(*(headwater("pull", copy) for copy in copies)):
        assert code == 0, output
    for number, copy in enumerate(copies):
        (copy / f"own{number}.yml").write_text("a: 1\n")
    ends = await asyncio.gather(*(headwater("push", copy) for copy in copies))
    assert sorted(code for code, _ in ends) == [0, 1, 1]
    for copy, (lost, output) in zip(copies, ends, strict=True):
        if lost:
            assert "the settings are at change 2 (by " in output
            assert "then push again" in output
            assert (await headwater("pull", copy))[0] == 0
            assert (await headwater("push", copy))[0] == 0
    assert (await store.read()).contents().keys() == {
        *("accounts.yml", "own0.yml", "own1.yml", "own2.yml")
    }
    assert [change.number for change in await store.history()] == [4, 3, 2, 1]
    await store.close()


async def test_cancelled_push_is_whole_or_nothing(postgres_url: str) -> None:
    """A push that is cancelled at any moment has stored everything or nothing."""
    store = await PostgresSettingsStore.open(postgres_url)
    files = {f"f{n}.yml": b"a: 1\n" for n in range(50)}
    stored = 0
    for steps in range(12):
        expected = (await store.read()).change
        wanted = {**files, "round.yml": b"round: %d\n" % steps}
        task = asyncio.create_task(store.push(wanted, expected=expected))
        for _ in range(steps * steps):
            await asyncio.sleep(0)
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError) or outcome is not None
        state = await store.read()
        if state.change > expected:
            stored += 1
            assert state.contents() == wanted
    assert [change.number for change in await store.history()] == list(range(stored, 0, -1))
    with pytest.raises(SettingsConflict):
        await store.push(pool(1), expected=stored + 1)
    await store.close()
