"""A real Apache Kafka for tests and benchmarks, and the fixtures that give it to them.

The programs come through Maven (see ``scripts/kafka``), once, into ``.venv/kafka``; they need Java
17. Without Java or Maven these tests are left out, which is said in one line. With
``HEADWATER_KAFKA_URL``, such as ``kafka://127.0.0.1:9092``, that cluster is used, with a prefix of
topics for each test; only tests that stop their server start one, as ever.

Tests with these fixtures are marked ``kafka``.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.ports import HeldPort

_WAIT_S_MAX = 100.0
_PR_SET_PDEATHSIG = 1
_UNPRIVILEGED = 65534  # nobody: a server of tests needs no rights
_ROOT = Path(__file__).parent.parent
_PROGRAMS = _ROOT / ".venv" / "kafka"
_CLUSTER = "headwater-testing-0000"  # 22 characters of base64, as Kafka wants it

FIXTURES = frozenset({"fresh_kafka", "kafka_server", "kafka_url", "own_kafka"})


def missing() -> str:
    """Return what keeps Kafka from being started here, empty when nothing does."""
    absent = [name for name in ("java", "mvn") if shutil.which(name) is None]
    if not absent or (absent == ["mvn"] and (_PROGRAMS / ".copied").exists()):
        return ""
    return (
        f"tests on Apache Kafka are left out, as {' and '.join(absent)} cannot be found: "
        "sh scripts/apt-install.sh openjdk-17-jre-headless maven"
    )


@cache
def programs() -> Path:
    """Return the directory of the server's files, which are fetched if they are not there."""
    if shutil.which("mvn"):
        subprocess.run(["sh", _ROOT / "scripts/kafka/install.sh", _PROGRAMS], check=True)
    return _PROGRAMS


class KafkaServer:
    """One broker in a directory of its own, which ends with this process at the latest."""

    def __init__(
        self,
        *,
        settings: Mapping[str, str] | None = None,
        client: Mapping[str, str] | None = None,
        advertised: int = 0,
        like: "KafkaServer | None" = None,
    ) -> None:
        """Format its storage; `start` it then.

        Args:
            settings: more of the server's settings.
            client: what clients need to come in, if it does not let everybody in.
            advertised: the port that clients are told, if it is another one (of a proxy).
            like: one that was never started, whose fresh storage is taken over.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="hwkafka"))
        self._client = client or {}
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": _UNPRIVILEGED, "group": _UNPRIVILEGED, "extra_groups": []}
        self._own(self.directory)
        self._programs = like._programs if like else self._readable(programs())
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = HeldPort(), HeldPort()
        self.port, controller = (port.number for port in self._ports)
        self.data = self.directory / "data"
        self._settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"CLIENTS://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"CLIENTS://127.0.0.1:{advertised or self.port}",
            "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENTS",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data),
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "auto.create.topics.enable": "false",
            "log.cleaner.dedupe.buffer.size": "4194304",
            "log.cleaner.threads": "1",
            "num.network.threads": "2",
            "num.io.threads": "2",
            "background.threads": "2",
            "controlled.shutdown.enable": "false",
            "broker.session.timeout.ms": "2000",  # so long nobody else is it after a kill
            "broker.heartbeat.interval.ms": "250",
            **(settings or {}),
        }
        self._file = self.directory / "server.properties"
        lines = [f"{name}={value}\n" for name, value in self._settings.items()]
        self._file.write_text("".join(lines))
        self._own(self._file)
        if like is not None:
            subprocess.run(["cp", "-a", like.data, self.directory], check=True)
        else:
            self._format()

    def _own(self, path: Path) -> None:
        if self._as:
            os.chown(path, _UNPRIVILEGED, _UNPRIVILEGED)

    def _format(self) -> None:
        self.data.mkdir()
        self._own(self.data)
        tool = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(self._file)]
        done = subprocess.run(
            [*self._java("64m"), *tool],
            cwd="/",
            capture_output=True,
            check=False,
            timeout=_WAIT_S_MAX,
            **self._as,
        )
        assert done.returncode == 0, done.stderr.decode()

    def _readable(self, jars: Path) -> Path:
        """Return the directory of the programs where the server's user can reach them."""
        if not self._as or all(part.stat().st_mode & 0o001 for part in (jars, *jars.parents)):
            return jars
        copied = self.directory / "programs"
        shutil.copytree(jars, copied)
        subprocess.run(["chmod", "-R", "go+rX", self.directory], check=True)
        return copied

    def _java(self, memory: str) -> list[str]:
        java = shutil.which("java")
        assert java is not None
        return [
            java, f"-Xmx{memory}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
            f"-Djava.io.tmpdir={self.directory}", "-XX:-UsePerfData",
            "-cp", f"{self._programs}/*",
        ]  # fmt: skip

    def start(self) -> None:
        """Start it and wait until it answers."""
        log_file = self.directory / "log"
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java("256m"), "kafka.Kafka", str(self._file)],
                cwd="/",
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # only a system call
                **self._as,
            )
        deadline = time.monotonic() + _WAIT_S_MAX
        while not brokers(f"127.0.0.1:{self.port}", self._client):
            assert self._process.poll() is None, log_file.read_text()
            assert time.monotonic() < deadline, log_file.read_text()

    @property
    def running(self) -> bool:
        """Whether it runs: it may have ended by itself."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id, while it runs."""
        assert self._process is not None
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it, in order."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_WAIT_S_MAX)
            self._process = None

    def kill(self) -> None:
        """Kill it, as the system does when memory runs out."""
        self.stop(signal.SIGKILL)

    def keep_copy(self) -> Path:
        """Return a copy of its data as it is on the disk; see `set_back`."""
        copy = Path(tempfile.mkdtemp(dir=self.directory))
        subprocess.run(["cp", "-a", self.data, copy], check=True)
        return copy

    def set_back(self, copy: Path) -> None:
        """Let it have lost, while it is stopped, what came after a copy was made."""
        shutil.rmtree(self.data)
        subprocess.run(["cp", "-a", copy / "data", self.directory], check=True)

    def remove(self) -> None:
        """Stop it and delete its files."""
        self.stop(signal.SIGKILL)
        for port in self._ports:
            port.release()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, prefix: str = "bank") -> str:
        """Return the URL of a bus on it."""
        return f"kafka://127.0.0.1:{self.port}/{prefix}"


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def admin_of(servers: str, client: Mapping[str, str] | None = None) -> AdminClient:
    """Return a client without guarantees, to look at a server from outside."""
    return AdminClient({
        "bootstrap.servers": servers, "log_level": 0, "reconnect.backoff.max.ms": 200,
        **(client or {}),
    })  # fmt: skip


def brokers(servers: str, client: Mapping[str, str]) -> int:
    """Return how many brokers a server knows of, 0 if it does not answer."""
    try:
        return len(admin_of(servers, client).list_topics(timeout=5).brokers)
    except KafkaException:
        return 0


def skip_without_kafka(item: pytest.Item) -> None:
    """Leave out a test that needs Kafka where there is none; skipped here it is one line."""
    needed = FIXTURES.intersection(getattr(item, "fixturenames", ()))
    if os.environ.get("HEADWATER_KAFKA_URL"):
        needed &= {"fresh_kafka", "own_kafka"}
    if needed and missing():
        pytest.skip(missing())


@pytest.fixture(scope="session")
def fresh_kafka() -> Iterator[KafkaServer]:
    """Return a server that is never started: what others are copied from."""
    server = KafkaServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def kafka_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the URL of a server that all tests of this process share; it names no prefix."""
    given = os.environ.get("HEADWATER_KAFKA_URL")
    if given:
        yield given.rstrip("/")
        return
    server = KafkaServer(like=request.getfixturevalue("fresh_kafka"))
    try:
        server.start()
        yield f"kafka://127.0.0.1:{server.port}"
    finally:
        server.remove()


@pytest.fixture
def kafka_url(kafka_server: str) -> str:
    """Return the URL of a bus that is this test's own; its topics are made when it is opened."""
    place, _, options = kafka_server.partition("?")
    joint = f"?{options}" if options else ""
    return f"{place}/t-{uuid.uuid4().hex}{joint}"


@pytest.fixture
def own_kafka(fresh_kafka: KafkaServer) -> Iterator[KafkaServer]:
    """Return a running server that is this test's own, to be stopped and killed at will."""
    server = KafkaServer(like=fresh_kafka)
    try:
        server.start()
        yield server
    finally:
        server.remove()
