"""Output that is read no more: `up` stops in order, `run` goes on, and signals always work."""

import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.cli.conftest import (
    HEADWATER,
    SAMPLE,
    alive,
    ask,
    descendants,
    eventually,
)

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(make_system) -> Iterator[Start]:
    """Return a function that starts a system, whose processes are gone at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(ready_file: Path, *before: str, **how: object) -> "subprocess.Popen[bytes]":
        file = make_system()
        command = [*before, *HEADWATER, "up", "--file", file, "--ready-file", ready_file]
        started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, **how))
        return started[-1]

    yield begin
    for process in started:
        below = descendants(process.pid)
        process.kill()
        process.wait()
        for pid in filter(alive, below):
            os.kill(pid, signal.SIGKILL)


def is_ready(ready_file: Path) -> bool:
    return ready_file.exists() and ready_file.stat().st_size > 0


def all_gone(process: "subprocess.Popen[bytes]", below: set[int]) -> None:
    """It has ended by itself, in order, and nothing of it is left."""
    assert process.wait(60) == 0
    eventually("nothing is left", lambda: not any(map(alive, below)))


def in_terminal(slave: int) -> Callable[[], None]:
    """Return what makes a terminal that of a new process."""

    def become() -> None:
        os.setsid()
        os.close(os.open(os.ttyname(slave), os.O_RDWR))  # the first one opened controls it

    return become


def read_banner(master: int) -> None:
    """Read what is written to a terminal until the system is up."""
    written = b""
    while b"Ctrl-C stops it" not in written:
        written += os.read(master, 65536)


@pytest.mark.parametrize("told", [True, False], ids=["hang-up", "no signal"])
def test_a_closed_terminal(start: Start, tmp_path: Path, told: bool) -> None:
    """Whose terminal is closed stops in order, whether it is sent SIGHUP or only cannot write."""
    ready = tmp_path / "ready.json"
    master, slave = pty.openpty()
    more = {"preexec_fn": in_terminal(slave)} if told else {"start_new_session": True}
    process = start(ready, stdout=slave, stderr=slave, **more)
    os.close(slave)
    read_banner(master)
    below = descendants(process.pid)
    assert len(below) >= 5
    os.close(master)
    if not told:  # nothing is written while nothing happens
        os.kill(min(below - {min(below)}), signal.SIGKILL)
    all_gone(process, below)


def test_a_closed_terminal_and_signals(start: Start, tmp_path: Path) -> None:
    """After its terminal was closed, being asked to stop twice ends it at once."""
    ready = tmp_path / "ready.json"
    master, slave = pty.openpty()
    process = start(ready, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    read_banner(master)
    below = descendants(process.pid)
    os.close(master)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
    all_gone(process, below)


def test_a_terminal_that_is_not_read(start: Start, tmp_path: Path) -> None:
    """A terminal that is held up (or a full pipe) holds up neither the system nor signals."""
    ready = tmp_path / "ready.json"
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    process = start(ready, stdout=write, stderr=write, start_new_session=True)
    os.close(write)
    eventually("it is ready", lambda: is_ready(ready))
    below = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    all_gone(process, below)
    os.close(read)


def test_a_pipe_whose_reader_has_ended(start: Start, tmp_path: Path) -> None:
    """`headwater up | head` stops when head does."""
    process = start(
        tmp_path / "ready.json",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    below = descendants(process.pid)
    process.stdout.close()
    all_gone(process, below)


def test_nohup(start: Start, tmp_path: Path) -> None:
    """Under nohup a hang-up does nothing, and SIGTERM stops it."""
    ready = tmp_path / "ready.json"
    with (tmp_path / "out").open("wb") as out:
        process = start(ready, "nohup", stdout=out, stderr=out, start_new_session=True)
    eventually("it is ready", lambda: is_ready(ready))
    below = descendants(process.pid)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    all_gone(process, below)
    assert "closed" not in (tmp_path / "out").read_text()


def run_sample(folder: Path, **how: object) -> "subprocess.Popen[bytes]":
    """Start an instance in the foreground."""
    flags = ["--port", "0", "--set", f"data={folder}"]
    environment = {**os.environ, "NO_COLOR": "1"}
    command = [*HEADWATER, "run", "counting:service", *flags]
    return subprocess.Popen(command, cwd=SAMPLE, env=environment, **how)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_an_instance_whose_log_is_read_no_more(tmp_path: Path, number: int) -> None:
    """An instance goes on without its log, and a hang-up stops it in order."""
    process = run_sample(tmp_path, stderr=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stderr is not None
        url = ""
        while not url:
            found = re.search(rb"ready .*url=(\S+)", process.stderr.readline())
            url = found[1].decode() if found else ""
        process.stderr.close()
        for _ in range(3):  # each is logged
            assert ask(f"{url}/counters/none", body={"by": -1})[0] >= 400
        assert ask(f"{url}/counters/a", body={"by": 2})[0] == 200
        process.send_signal(number)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
