"""headwater run: one instance in the foreground, and how its start can fail."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.discovery import DiscoveryServer
from headwater.operations.loading import load_service
from tests.integration.cli.conftest import (
    HEADWATER,
    SAMPLE,
    ask,
    eventually,
    headwater,
    one_line_error,
    value_of,
)
from tests.ports import HeldPort


class Foreground:
    """A running `headwater run`, its log in a file."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        """Start it in the sample's folder."""
        self.log_file = folder / "run.log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [*HEADWATER, "run", *arguments],
                cwd=SAMPLE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "NO_COLOR": "1", **environment},
            )

    @property
    def log(self) -> str:
        """Everything it has written so far."""
        return self.log_file.read_text(encoding="utf-8")

    def url(self) -> str:
        """Return where it listens, once it is ready."""

        def found() -> str:
            if self.process.poll() is not None:
                pytest.fail(f"it has ended:\n{self.log}")
            ready = re.search(r"ready .*url=(\S+)", self.log)
            return ready[1] if ready else ""

        return str(eventually("it is ready", found))


@pytest.fixture
def foreground(tmp_path) -> Iterator[object]:
    """Return a function that runs something in the foreground; it is ended at the end."""
    started: list[Foreground] = []

    def start(*arguments: str, **environment: str) -> Foreground:
        started.append(Foreground(tmp_path, *arguments, **environment))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        running.process.wait()


def test_an_instance_runs_alone_until_it_is_told_to_stop(foreground, tmp_path):
    """Without discovery and configuration an instance serves, and SIGTERM ends it with code 0."""
    running = foreground("counting:service", "--port", "0", "--set", f"data={tmp_path}")
    url = running.url()
    assert ask(f"{url}/counters/a", body={"by": 5})[0] == 200
    assert eventually("the view is there", lambda: value_of(f"{url}/counters/a")) == 5
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) == 0
    assert "Traceback" not in running.log


FIRST = """\
from headwater import Aggregate, Command, Event, Service, command_handler, route


@route("POST /counters/{counter_id}")
class Count(Command):
    counter_id: str


class Counted(Event):
    counter_id: str


class Counter(Aggregate):
    @command_handler(creates="if_missing")
    def count(self, command: Count) -> Counted:
        return Counted(self.id)


service = Service("first", aggregates=[Counter])
"""


def test_a_service_of_one_file_needs_nothing_else(foreground, tmp_path):
    """A file runs as it is, says where its page and its data are, and goes on where it was."""
    file = tmp_path / "queue.py"  # as a module that is imported already
    file.write_text(FIRST)
    for version in (1, 2):
        running = foreground(str(file), "--set", f"data={tmp_path / 'data'}")
        url = running.url()
        status, answer, _ = ask(f"{url}/counters/a", body={})
        assert (status, answer["version"]) == (200, version)
        said = f"first runs: {url}/docs\nIts data is in {tmp_path / 'data' / 'first'}."
        eventually("it says so", lambda said=said, running=running: said in running.log)
        with urllib.request.urlopen(f"{url}/docs") as page:
            assert page.status == 200
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(30) == 0


def test_the_service_of_a_file_is_found(tmp_path):
    """Of several services in a file one is named; what cannot be meant is told in one line."""
    file = tmp_path / "shop.py"
    empty, several = "", FIRST + 'other = Service("other", aggregates=[Counter])\n'
    for text, target, told in (
        (None, "shop.py", "there is no such file in"),
        (empty, "shop.py", "it has no Service at all"),
        (several, "shop.py", r"say which one, as shop\.py:service; its services: service, other"),
        (several, "shop.py:another", "'another' in .* does not exist: its services: service"),
        (several, "shop.py:Counter", "'Counter' in .* is not a Service"),
        (several, "shop.py:", 'expected "module:service" or "file.py"'),
        ("import nothing_there", "shop.py", "shop.py:1: ModuleNotFoundError: No module"),
    ):
        if text is not None:
            file.write_text(text)
        assert re.search(told, one_line_error(headwater("run", target, cwd=tmp_path), code=2))
    file.write_text(several)
    found = load_service(f"{file}:other")
    assert found.name == "other"


def test_flags_come_before_the_environment(foreground, tmp_path):
    """A setting is taken from the environment, unless a flag gives it."""
    running = foreground(
        "counting:service",
        "--log-format",
        "console",
        HEADWATER_DATA=str(tmp_path / "environment"),
        HEADWATER_LOG_FORMAT="json",
        HEADWATER_PORT="0",
        HEADWATER_INSTANCE="from-environment",
    )
    url = running.url()
    assert "instance=from-environment" in running.log
    assert ask(f"{url}/counters/a", body={"by": 1})[0] == 200
    assert (tmp_path / "environment/counting/events.db").exists()


def test_the_configuration_service_comes_after_flags(foreground, tmp_path):
    """A setting of the section `headwater` counts when no flag gives it; so does its log form."""
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "counting.yaml").write_text(
        f"headwater:\n  data: {tmp_path / 'configured'}\n  log_format: json\n", encoding="utf-8"
    )

    config = foreground("config", "--port", "0", "--set", f"directory={folder}")
    found = eventually("it serves", lambda: re.search(r"http://127.0.0.1:(\d+)", config.log))
    flags = ("--port", "0", "--config", f"http://127.0.0.1:{found[1]}")
    second = tmp_path / "second"
    second.mkdir()
    running = Foreground(second, "counting:service", *flags)
    try:
        running.url()
        assert (tmp_path / "configured/counting/events.db").exists()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) == 0
        assert '"event": "stopping"' in running.log
    finally:
        running.process.kill()
        running.process.wait()


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("countin:service", "no module 'countin'"),
        ("counting.more:service", "no module 'counting.more'"),
        ("counting:servce", "'servce' in .*counting.py does not exist: its services: service"),
        ("counting:Counter", "is not a Service: its services: service"),
        ("counting", 'expected "module:service"'),
    ],
)
def test_a_service_that_cannot_be_found_is_one_clear_error(app, words):
    """A wrong module or attribute is named, with what is there instead."""
    error = one_line_error(headwater("run", app, "--port", "0", cwd=SAMPLE), code=2)
    assert re.search(words, error)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import nothing_here\n",
            "wrong.py:1: ModuleNotFoundError: No module named 'nothing_here'",
        ),
        ("x = 1\ny = x.z\n", "wrong.py:2: AttributeError: "),
        ("def f(:\n", "wrong.py:1: SyntaxError: "),
        (
            "from headwater.service import Service\nservice = Service('a b')\n",
            r"a name has letters, digits, - and _ \(.*wrong.py:2\)",
        ),
    ],
)
def test_a_module_that_fails_names_file_and_line(tmp_path, source, words):
    """An import that fails is one line with the place in the user's own code."""
    (tmp_path / "wrong.py").write_text(source, encoding="utf-8")
    result = headwater("run", "wrong:service", "--port", "0", cwd=tmp_path)
    error = one_line_error(result, code=2)
    assert re.search(words, error)


@pytest.mark.parametrize("part", ["discovery", "config"])
def test_a_start_without_its_platform_fails_clearly(tmp_path, part):
    """An instance that cannot reach discovery or configuration does not start, and says so."""
    with HeldPort() as nobody:
        url = f"http://127.0.0.1:{nobody}"
        arguments = ["--port", "0", f"--{part}", url, "--set", "start_timeout_s=0.5"]
        result = headwater(
            "run", "counting:service", *arguments, "--set", f"data={tmp_path}", cwd=SAMPLE
        )
    assert url in one_line_error(result, code=75)


def test_an_unreadable_store_is_one_clear_error(tmp_path):
    """A file that is no database is named, and nothing of it is changed."""
    file = tmp_path / "counting/events.db"
    file.parent.mkdir()
    file.write_bytes(b"this is no database" * 1000)
    result = headwater(
        "run", "counting:service", "--port", "0", "--set", f"data={tmp_path}", cwd=SAMPLE
    )
    assert str(file) in one_line_error(result, code=2)
    assert file.read_bytes() == b"this is no database" * 1000


def test_a_port_in_use_is_one_clear_error(tmp_path):
    """An instance whose port is taken does not start."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = headwater(
            "run", "counting:service", "--port", port, "--set", f"data={tmp_path}", cwd=SAMPLE
        )
    assert f"127.0.0.1:{port} is in use by another process" in one_line_error(result, code=75)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--set", "segmants=3"], "unknown setting 'segmants': did you mean 'segments'?"),
        (["--set", "segments=many"], "Expected `int`, got `str` - at `$.segments`"),
        (["--set", "segments"], "expected key=value"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(flags, words):
    """An unknown or malformed setting is refused before anything is opened."""
    result = headwater("run", "counting:service", "--port", "0", *flags, cwd=SAMPLE)
    assert words in one_line_error(result, code=2)


@pytest.mark.parametrize("kind", ["discovery", "config", "gateway"])
def test_a_platform_service_runs_alone(foreground, tmp_path, kind):
    """Each platform service can be run by itself, as a container does, and stops on SIGTERM."""
    (tmp_path / "config").mkdir()
    more = {
        "discovery": (),
        "config": ("--set", f"directory={tmp_path / 'config'}"),
        "gateway": ("--set", f"data={tmp_path}", "--set", "concurrency=1"),
    }
    if kind == "gateway":
        asyncio.run(_gateway_with_discovery(foreground, more[kind]))
        return
    running = foreground(kind, "--port", "0", *more[kind])
    found = eventually("it serves", lambda: re.search(r"http://127.0.0.1:\d+", running.log))
    assert ask(f"{found[0]}/health/ready")[0] == 200
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) == 0


async def _gateway_with_discovery(foreground, more) -> None:
    async with DiscoveryServer() as discovery:
        running = foreground("gateway", "--port", "0", "--discovery", discovery.url, *more)
        found = await asyncio.to_thread(
            eventually, "it serves", lambda: re.search(r"gateway serves .*url=(\S+)", running.log)
        )

        def told() -> bool:  # unavailable, as long as not everyone had the time to register
            status, problem, _ = ask(f"{found[1]}/nothing")
            assert (status, problem["code"]) in {(503, "not-known-yet"), (404, "route-not-found")}
            return bool(status == 404)

        await asyncio.to_thread(eventually, "settling ends", told)
        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.process.wait, 20) == 0
