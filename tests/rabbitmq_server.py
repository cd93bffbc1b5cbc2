"""A real RabbitMQ server for tests and benchmarks, and the fixtures that give it to them.

The programs are Debian's (``sh scripts/debian-rabbitmq.sh``). A server runs as an
ordinary user, in a directory of its own, on ports of loopback alone, and ends with this process.
With ``HEADWATER_RABBITMQ_URL`` (such as ``rabbitmq-stream://guest:guest@localhost:5552``) that
server is used, in streams of their own; only tests that stop their server start one, as ever.

Tests with these fixtures are marked ``rabbitmq``. Where there is no server they are left out, and
one line at the end says so.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.ports import HeldPort

_PROGRAMS = Path("/usr/lib/rabbitmq/bin")
_WAIT_S_MAX = 100.0
_PR_SET_PDEATHSIG = 1
_UNPRIVILEGED = 65534  # nobody
_MISSING = (
    "RabbitMQ is not installed, so what needs it was left out: "
    "sh scripts/debian-rabbitmq.sh, or set HEADWATER_RABBITMQ_URL"
)

FIXTURES = frozenset({"amqp_broker", "own_rabbitmq", "rabbitmq_server", "rabbitmq_url"})


class RabbitServer:
    """A server in a directory of its own, which ends with this process at the latest."""

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        """Make its directory; `start` it then, with more lines of configuration."""
        self.directory = Path(tempfile.mkdtemp(prefix="hwrabbit"))
        self._as: dict[str, Any] = {}
        self._ports = {name: HeldPort() for name in ("stream", "amqp", "distribution", "epmd")}
        self.port = self._ports["stream"].number
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        configured = {
            "listeners.tcp.1": f"127.0.0.1:{self._ports['amqp'].number}",
            "stream.listeners.tcp.1": f"127.0.0.1:{self.port}",
            "stream.advertised_host": "127.0.0.1",
            "stream.advertised_port": str(self.port),
            "disk_free_limit.absolute": "50MB",
            **(settings or {}),
        }
        lines = "".join(f"{name} = {value}\n" for name, value in configured.items())
        (self.directory / "rabbitmq.conf").write_text(lines)
        (self.directory / "plugins").write_text("[rabbitmq_stream].\n")
        cookie = self.directory / ".erlang.cookie"
        cookie.write_text(uuid.uuid4().hex)
        cookie.chmod(0o400)
        if os.geteuid() == 0:
            self._as = {"user": _UNPRIVILEGED, "group": _UNPRIVILEGED, "extra_groups": []}
            for path in (self.directory, *self.directory.iterdir()):
                os.chown(path, _UNPRIVILEGED, _UNPRIVILEGED)

    @property
    def data(self) -> Path:
        """The directory of its data."""
        return self.directory / "data"

    def _start(self, *command: str) -> "subprocess.Popen[bytes]":
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # only a system call
                **self._as,
            )

    def _environment(self) -> dict[str, str]:
        place = self.directory
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(place),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._ports["epmd"].number),
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_CONF_ENV_FILE": str(place / "no-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(place / "rabbitmq"),
            "RABBITMQ_DIST_PORT": str(self._ports["distribution"].number),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "plugins"),
            "RABBITMQ_LOG_BASE": str(place / "logs"),
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_NODENAME": f"{place.name}@localhost",
            "RABBITMQ_PID_FILE": str(place / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none"
            ),
            "RUNNING_UNDER_SYSTEMD": "true",  # the server takes the place of its start script
        }

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        if self._epmd is None:  # started by the server it would outlive it
            port = str(self._ports["epmd"].number)
            self._epmd = self._start("epmd", "-port", port, "-address", "127.0.0.1")
            self._answers(self._ports["epmd"].number, self._epmd)
        self._process = self._start(str(_PROGRAMS / "rabbitmq-server"))
        self._answers(self.port, self._process)
        self._answers(self._ports["amqp"].number, self._process)
        for name in {"tls", "amqps"} & self._ports.keys():
            self._answers(self._ports[name].number, self._process)

    def _answers(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + _WAIT_S_MAX
        while True:
            assert process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, (self.directory / "log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """Its process id, while it runs."""
        assert self._process is not None
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it: SIGTERM in order, SIGKILL as the system does when memory runs out."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_WAIT_S_MAX)
            self._process = None

    def kill(self) -> None:
        """Kill it at once."""
        self.stop(signal.SIGKILL)

    def control(self, *command: str) -> str:
        """Tell the running server something, as ``rabbitmqctl`` does; return what it answers."""
        done = subprocess.run(
            [str(_PROGRAMS / "rabbitmqctl"), "-n", f"{self.directory.name}@localhost", *command],
            cwd=self.directory,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_WAIT_S_MAX,
            **self._as,
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        return done.stdout.decode()

    def encrypt(self, authority: trustme.CA) -> int:
        """Let it listen with TLS, too, from its next start on; return the port."""
        certificate = authority.issue_cert("127.0.0.1")
        files = {
            name: self.directory / f"{name}.pem" for name in ("cacertfile", "certfile", "keyfile")
        }
        authority.cert_pem.write_to_path(str(files["cacertfile"]))
        certificate.cert_chain_pems[0].write_to_path(str(files["certfile"]))
        certificate.private_key_pem.write_to_path(str(files["keyfile"]))
        port = self._ports.setdefault("tls", HeldPort()).number
        amqps = self._ports.setdefault("amqps", HeldPort()).number
        with (self.directory / "rabbitmq.conf").open("a") as settings:
            settings.write(f"stream.listeners.ssl.1 = 127.0.0.1:{port}\n")
            settings.write(f"listeners.ssl.1 = 127.0.0.1:{amqps}\n")
            for name, path in files.items():
                settings.write(f"ssl_options.{name} = {path}\n")
        for path in files.values():
            path.chmod(0o444)
        return port

    def copy_data(self, to: Path) -> None:
        """Copy the data of a server that does not run."""
        assert self._process is None
        subprocess.run(["cp", "-a", self.data, to], check=True)

    def put_back(self, copy: Path) -> None:
        """Let a server that does not run have the data of a copy."""
        assert self._process is None
        shutil.rmtree(self.data)
        subprocess.run(["cp", "-a", copy, self.data], check=True)

    def remove(self) -> None:
        """End it and delete its files."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(_WAIT_S_MAX)
        for port in self._ports.values():
            port.release()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, *, port: int = 0, **options: str) -> str:
        """Return the URL of a bus, such as ``url(name="bank")``."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"rabbitmq-stream://guest:guest@127.0.0.1:{port or self.port}/?{query}"

    @property
    def amqp_url(self) -> str:
        """The URL of the broker for AMQP 0-9-1."""
        return f"amqp://guest:guest@127.0.0.1:{self._ports['amqp'].number}/"

    @property
    def amqps_url(self) -> str:
        """The same with TLS, once `encrypt` was called."""
        return f"amqps://guest:guest@127.0.0.1:{self._ports['amqps'].number}/"


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def fresh_name() -> str:
    """Return a name for a bus that there was never before."""
    return f"t{uuid.uuid4().hex}"


def missing() -> str:
    """Return what keeps a server from being started here, empty when nothing does."""
    return "" if (_PROGRAMS / "rabbitmq-server").exists() else _MISSING


def skip_without_server(item: pytest.Item) -> None:
    """Leave out a test that needs a server where there is none; skipped here it is one line."""
    needed = FIXTURES.intersection(getattr(item, "fixturenames", ()))
    if os.environ.get("HEADWATER_RABBITMQ_URL"):
        needed &= {"amqp_broker", "own_rabbitmq"}
    if needed and missing():
        pytest.skip(missing())


@pytest.fixture(scope="session")
def amqp_broker() -> Iterator[RabbitServer]:
    """Return a running server that all tests of this process share."""
    server = RabbitServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def rabbitmq_server(request: pytest.FixtureRequest) -> str:
    """Return the URL of a server that all tests of this process share; it names no bus."""
    given = os.environ.get("HEADWATER_RABBITMQ_URL")
    if given:
        return given
    server: RabbitServer = request.getfixturevalue("amqp_broker")
    return server.url().rstrip("?")


@pytest.fixture
def rabbitmq_url(rabbitmq_server: str) -> str:
    """Return the URL of a bus that is this test's own; it is made when it is opened."""
    joint = "&" if "?" in rabbitmq_server else "?"
    return f"{rabbitmq_server}{joint}name={fresh_name()}"


@pytest.fixture
def own_rabbitmq(request: pytest.FixtureRequest) -> Iterator[RabbitServer]:
    """Return a running server that is this test's own, to be stopped and killed at will.

    Its settings can be given by ``parametrize("own_rabbitmq", [{...}], indirect=True)``.
    """
    server = RabbitServer(getattr(request, "param", None))
    try:
        server.start()
        yield server
    finally:
        server.remove()
