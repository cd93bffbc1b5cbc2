"""Copying a store with real processes: killed, interrupted, refused, and checked."""

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import apsw
import asyncpg
import pytest

from headwater.eventstore import EventStore, Idempotency, NewEvent, StreamWrite
from headwater.service.engines import open_event_store
from tests.integration.cli.conftest import HEADWATER, headwater, one_line_error

WAIT_S_MAX = 30.0
EVENTS = 30_000
PAGE = 2000
_LOCK = "SELECT pg_advisory_xact_lock((1751474532::bigint << 32) | 'events'::regclass::oid::bigint)"


async def _fill(url: str, number: int) -> None:
    store = await open_event_store(url)
    for stream in range(number // 1000):
        events = [NewEvent("Happened", 1, b'{"n":%d}' % n, b"{}", (f"n:{n}",)) for n in range(1000)]
        await store.append(
            [StreamWrite(f"s/{stream}", events)], idempotency=Idempotency(f"{stream}")
        )
    await store.close()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of a store that takes more than a moment to copy."""
    url = f"sqlite:{tmp_path_factory.mktemp('source') / 'events.db'}"
    asyncio.run(_fill(url, EVENTS))
    return url


def started(source: str, target: str) -> subprocess.Popen[str]:
    """Start a copy."""
    return subprocess.Popen(
        [*HEADWATER, "copy-store", "--from", source, "--to", target],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )


def copied(source: str, target: str, *more: str) -> dict[str, object]:
    """Copy or compare to the end; return the report."""
    done = headwater("copy-store", "--from", source, "--to", target, "--json", *more)
    assert done.returncode == 0, done.stderr
    report: dict[str, object] = json.loads(done.stdout)
    return report


def check_completed(source: str, target: str) -> int:
    """Copy what is missing, and compare; return where it went on."""
    report = copied(source, target)
    assert report["position"] == EVENTS
    checked = copied(source, target, "--check")
    assert (checked["equal"], checked["events"]) == (True, EVENTS)
    assert checked["keys"] == EVENTS // 1000
    began = report["began"]
    assert isinstance(began, int)
    return began


async def ended_in_the_middle(
    process: subprocess.Popen[str], url: str, number: signal.Signals
) -> tuple[int, str]:
    """Send a signal while the copy is held up in the middle, by the lock that it needs.

    The server grants the lock in the order of asking, so the copy cannot finish meanwhile.

    Returns:
        How many events were copied, and what the process wrote to standard error.
    """
    base, _, schema = url.rpartition("schema=")
    connection = await asyncpg.connect(
        base.rstrip("?&"), server_settings={"search_path": schema}, timeout=5
    )
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            while True:
                if not await connection.fetchval("SELECT to_regclass('events') IS NOT NULL"):
                    await asyncio.sleep(0.005)
                    continue
                async with connection.transaction():
                    await connection.execute(_LOCK)
                    head = await connection.fetchval("SELECT max(position) FROM events")
                    if head:
                        process.send_signal(number)
                        _, stderr = process.communicate(timeout=WAIT_S_MAX)
                        return int(head), stderr
    finally:
        await connection.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_the_middle(source: str, postgres_url: str, number: signal.Signals) -> None:
    """After a kill, or Ctrl-C, the same command goes on where it ended, and all is there once."""
    process = started(source, postgres_url)
    try:
        head, stderr = asyncio.run(ended_in_the_middle(process, postgres_url, number))
    finally:
        process.kill()
        process.communicate()
    assert 0 < head < EVENTS
    assert head % PAGE == 0
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert stderr.endswith("interrupted: the same command goes on where this one ended\n")
        assert "Traceback" not in stderr
    assert check_completed(source, postgres_url) == head


def test_summary_says_how_to_cut_over(source: str, tmp_path: Path) -> None:
    """A copy says what it did and how to go on; the check says that both are equal."""
    target = f"sqlite:{tmp_path / 'copy.db'}"
    done = headwater("copy-store", "--from", source, "--to", target)
    assert done.returncode == 0, done.stderr
    assert f"copied {EVENTS:,} events and {EVENTS // 1000} idempotency keys" in done.stdout
    assert "events/s" in done.stdout
    assert "snapshots" in done.stdout
    assert "to cut over: stop whoever writes" in done.stdout
    checked = headwater("copy-store", "--from", source, "--to", target, "--check")
    assert checked.stdout.startswith(f"equal: {EVENTS:,} events")


def test_target_of_another_source(source: str, tmp_path: Path) -> None:
    """A target with other events is refused in one line."""
    other = f"sqlite:{tmp_path / 'other.db'}"
    asyncio.run(_fill(other, 1000))
    error = one_line_error(headwater("copy-store", "--from", source, "--to", other), code=1)
    assert "nothing was imported: the target has 1000 events of epoch" in error


def test_check_names_the_first_difference(source: str, tmp_path: Path) -> None:
    """A manipulated copy fails the check in one line that names the position and both values."""
    file = tmp_path / "copy.db"
    copied(source, f"sqlite:{file}")
    connection = apsw.Connection(str(file))
    for position in (12_345, 23_456):
        connection.execute("UPDATE events SET data = ? WHERE position = ?", (b"{}", position))
    connection.close()
    check = ("copy-store", "--from", source, "--to", f"sqlite:{file}", "--check")
    error = one_line_error(headwater(*check), code=1)
    expected = """position 12345: data is b'{"n":344}' in the source, b'{}' in the target"""
    assert expected in error
    done = headwater(*check, "--json")
    assert one_line_error(done, code=1) == error
    report = json.loads(done.stdout)
    assert report["equal"] is False
    assert expected in report["difference"]
    assert report["events"] < 12_345


def test_incomplete_copy_fails_the_check(source: str, tmp_path: Path) -> None:
    """While the source has more than its copy, they are not the same."""
    file = tmp_path / "copy.db"
    copied(source, f"sqlite:{file}")
    asyncio.run(_one_more(f"sqlite:{file}"))
    behind = headwater("copy-store", "--from", f"sqlite:{file}", "--to", source, "--check")
    assert "the target has 30000 events, the source 30001" in one_line_error(behind, code=1)


async def _one_more(url: str) -> None:
    store: EventStore = await open_event_store(url)
    await store.append([StreamWrite("more", [NewEvent("Happened", 1, b"{}", b"{}")])])
    await store.close()


@pytest.mark.parametrize(
    ("source", "target", "code", "expected"),
    [
        ("sqlite:missing.db", "sqlite:copy.db", 2, "missing.db does not exist"),
        ("memory:", "sqlite:copy.db", 2, "ends with its process"),
        ("sqlite:here.db", "memory:", 2, "ends with its process"),
        ("sqlite:here.db", "mysql://there/db", 2, "there is no engine for this scheme"),
        ("sqlite:here.db", "here.db", 2, "is the same as --from"),
        ("sqlite:here.db", "sqlite:./here.db", 2, "is the same as --from"),
        ("sqlite:here.db", "postgresql://u:secret@127.0.0.1:1/d", 75, "cannot be reached"),
        ("sqlite:here.db", "postgresql://u:secret@127.0.0.1:1/d?schema=A-b", 2, "not plain"),
    ],
)
def test_wrong_urls(tmp_path: Path, source: str, target: str, code: int, expected: str) -> None:
    """What cannot be copied is named in one line, without a password, and nothing is made."""
    asyncio.run(_one_more(f"sqlite:{tmp_path / 'here.db'}"))
    done = headwater("copy-store", "--from", source, "--to", target, cwd=tmp_path)
    error = one_line_error(done, code=code)
    assert expected in error
    assert "secret" not in done.stderr + done.stdout
    assert not (tmp_path / "copy.db").exists()


def test_report_names_no_user(source: str, postgres_url: str) -> None:
    """A report names the target without user and password."""
    assert "@" in postgres_url
    report = copied(source, postgres_url)
    assert str(report["target"]).startswith("postgresql://")
    assert "@" not in str(report["target"])
