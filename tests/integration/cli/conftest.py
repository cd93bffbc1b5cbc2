"""Real `headwater` processes, and a system of one tiny service."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SAMPLE = Path(__file__).parent / "sample"
HEADWATER = [sys.executable, "-m", "headwater.cli"]

TOML = """\
[system]
name = "sample"
python_path = ["{sample}"]
[gateway]
port = 0
concurrency = 1
[discovery]
port = 0
[config]
port = 0
[processors]
attempts = 3
pause_s = 0.01
[services.counting]
app = "counting:service"
instances = {{ {instances} }}
[services.counting.settings]
segments = 2
lease_s = 2.0
"""


def eventually(what: str, condition: Callable[[], Any], *, within_s: float = 60.0) -> Any:
    """Return the first true value of a condition; fail when there is none in time."""
    ends = time.monotonic() + within_s
    while time.monotonic() < ends:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail(f"not within {within_s} s: {what}")


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def descendants(pid: int) -> set[int]:
    """Return the ids of all processes below one."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text(encoding="utf-8").split()):
                found |= {child, *descendants(child)}
    return found


def headwater(
    *arguments: str | Path, cwd: Path | None = None, timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*HEADWATER, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )


def one_line_error(result: subprocess.CompletedProcess[str], *, code: int) -> str:
    """Return the error of a command, after checking that it is one line and no traceback."""
    assert result.returncode == code, result.stderr + result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    return lines[0]


def ask(url: str, *, body: Any = None, timeout_s: float = 10.0) -> tuple[int, Any, dict[str, str]]:
    """Send a request; return status, decoded answer and headers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return answer.status, json.loads(answer.read() or b"null"), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null"), dict(error.headers)


def value_of(url: str) -> int:
    """Return the value of a counter's view; 0 while there is none."""
    _, view, _ = ask(url)
    return int(view["value"]) if view else 0


class Up:
    """A running `headwater up`."""

    def __init__(self, file: Path, *more: str) -> None:
        """Start it."""
        self.folder = file.parent
        self.ready_file = self.folder / "ready.json"
        self.log_file = self.folder / "up.log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [*HEADWATER, "up", "--file", file, "--ready-file", self.ready_file, *more],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "NO_COLOR": "1"},
            )

    @property
    def log(self) -> str:
        """Everything it has written so far."""
        return self.log_file.read_text(encoding="utf-8")

    def status(self) -> dict[str, Any]:
        """Return the ready file; empty before the system is ready."""
        with contextlib.suppress(OSError):
            found: dict[str, Any] = json.loads(self.ready_file.read_bytes())
            return found
        return {}

    def wait_ready(self, *, within_s: float = 60.0) -> dict[str, Any]:
        """Return the ready file once everything is ready."""

        def ready() -> dict[str, Any] | None:
            if self.process.poll() is not None:
                pytest.fail(f"headwater up has ended:\n{self.log}")
            status = self.status()
            return status if status.get("ready") else None

        try:
            found: dict[str, Any] = eventually("the system is ready", ready, within_s=within_s)
        except BaseException:
            sys.stderr.write(self.log)
            raise
        return found

    def processes(self) -> dict[str, dict[str, Any]]:
        """Return the processes by name."""
        return {process["name"]: process for process in self.status().get("processes", [])}

    def stop(self, number: int = signal.SIGINT, *, within_s: float = 60.0) -> int:
        """Ask it to stop; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(within_s)

    def clean_up(self) -> None:
        """Leave nothing running, whatever the test did."""
        below = descendants(self.process.pid)
        if self.process.poll() is None:
            try:
                self.stop(signal.SIGTERM)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        eventually("no process is left", lambda: not any(map(alive, below)))


@pytest.fixture(scope="session")
def make_system(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes a headwater.toml with free ports into a new folder."""

    def make(instances: str = "all = 1") -> Path:
        folder = tmp_path_factory.mktemp("system")
        (folder / "config").mkdir()
        file = folder / "headwater.toml"
        file.write_text(TOML.format(sample=SAMPLE, instances=instances), encoding="utf-8")
        return file

    return make


@pytest.fixture
def up() -> Iterator[Callable[..., Up]]:
    """Return a function that starts a system; what still runs at the end is stopped."""
    started: list[Up] = []

    def start(file: Path, *more: str) -> Up:
        started.append(Up(file, *more))
        return started[-1]

    yield start
    for running in started:
        running.clean_up()
