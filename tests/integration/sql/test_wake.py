"""Wake-ups between tasks, stores and processes on the same file."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater._sql.sqlite.wake import Wake, directory_for
from headwater._sql.waiting import SAFETY_S
from headwater.testing.eventstore_base import soon

LONG_S = 60.0
"""A safety check that would fail the test's own bound."""


@pytest.fixture
async def wake(tmp_path: Path) -> AsyncIterator[Wake]:
    wake = Wake(tmp_path / "x.db")
    yield wake
    wake.close()


def sockets(wake: Wake) -> list[str]:
    return sorted(file.name for file in wake.directory.iterdir())


async def test_tasks_of_this_process(wake: Wake) -> None:
    """`fire` wakes everybody who waits; a ticket from before it does not wait at all."""
    ticket = wake.ticket()
    waiting = [asyncio.ensure_future(wake.wait(ticket, timeout_s=LONG_S)) for _ in range(3)]
    await asyncio.sleep(0)
    wake.fire()
    await soon(asyncio.gather(*waiting))
    await soon(wake.wait(ticket, timeout_s=LONG_S))


async def test_others_on_the_same_file(tmp_path: Path, wake: Wake) -> None:
    """A committer wakes whoever listens on the same file, by any path, and nobody else."""
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "x.db").write_text("")
    same, other = Wake(tmp_path / "link" / "x.db"), Wake(tmp_path / "y.db")
    tickets = [one.ticket() for one in (same, other)]
    elsewhere = asyncio.ensure_future(other.wait(tickets[1], timeout_s=LONG_S))
    wake.notify_others()
    await soon(same.wait(tickets[0], timeout_s=LONG_S))
    assert not elsewhere.done()
    other.close()
    await soon(elsewhere)
    same.close()


async def test_late_listeners_are_found(tmp_path: Path, wake: Wake) -> None:
    """A listener that comes right after the committer looked is woken by the next commit."""
    listeners = []
    for _ in range(20):
        wake.notify_others()
        listeners.append(Wake(tmp_path / "x.db"))
        tickets = [one.ticket() for one in listeners]
        wake.notify_others()
        for one, ticket in zip(listeners, tickets, strict=True):
            await soon(one.wait(ticket, timeout_s=LONG_S))
    for one in listeners:
        one.close()


async def test_many_wake_ups_block_nobody(tmp_path: Path, wake: Wake) -> None:
    """A listener that is busy never blocks or fails a committer, and is woken afterwards."""
    listener = Wake(tmp_path / "x.db")
    ticket = listener.ticket()
    for _ in range(5000):
        wake.notify_others()
    await soon(listener.wait(ticket, timeout_s=LONG_S))
    listener.close()


async def test_sockets_of_the_dead_are_removed(wake: Wake) -> None:
    """A socket whose process was killed is unlinked by the next committer; others stay."""
    wake.ticket()
    (mine,) = sockets(wake)
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(f"{wake.directory}/dead")
    dead.close()
    committer = Wake(wake.directory)
    committer.directory = wake.directory
    ticket = wake.ticket()
    committer.notify_others()
    await soon(wake.wait(ticket, timeout_s=LONG_S))
    assert sockets(wake) == [mine]
    committer.close()


async def test_private_directory(wake: Wake) -> None:
    """Sockets are where only this user can reach them, and their addresses are short."""
    wake.ticket()
    for directory in (wake.directory, wake.directory.parent):
        assert directory.stat().st_mode & 0o777 == 0o700
        assert directory.stat().st_uid == os.getuid()
    (name,) = sockets(wake)
    assert len(f"{wake.directory}/{name}") < 104


async def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    """When the directory cannot be trusted no socket is bound, and waiting is a short poll."""
    wake = Wake(tmp_path / "x.db")
    wake.directory = tmp_path / "open" / "x"
    wake.directory.parent.mkdir(mode=0o777)
    wake.directory.parent.chmod(0o777)
    started = time.monotonic()
    await wake.wait(wake.ticket(), timeout_s=LONG_S)
    assert time.monotonic() - started < LONG_S / 10
    assert not wake.directory.exists()
    wake.close()


async def test_safety_check(wake: Wake) -> None:
    """Without any wake-up, waiting ends after the time given."""
    await soon(wake.wait(wake.ticket(), timeout_s=0.01))


async def test_cleaned_directory(tmp_path: Path, wake: Wake) -> None:
    """When somebody removes the sockets, the next safety check binds a new one."""
    wake.ticket()
    (name,) = sockets(wake)
    (wake.directory / name).unlink()
    wake.directory.rmdir()
    await soon(wake.wait(wake.ticket(), timeout_s=0.01))
    ticket = wake.ticket()
    committer = Wake(tmp_path / "x.db")
    committer.notify_others()
    await soon(wake.wait(ticket, timeout_s=LONG_S))
    committer.close()


async def test_nothing_is_left(tmp_path: Path) -> None:
    """Closing wakes those who wait and removes socket and directory; twice is fine."""
    wake = Wake(tmp_path / "x.db")
    waiting = asyncio.ensure_future(wake.wait(wake.ticket(), timeout_s=LONG_S))
    await asyncio.sleep(0)
    assert wake.directory == directory_for(tmp_path / "x.db")
    wake.close()
    await soon(waiting)
    assert not wake.directory.exists()
    wake.close()


ECHO = """
import asyncio, sys
from pathlib import Path
from headwater._sql.sqlite.wake import Wake

async def main():
    here, there = Wake(Path(sys.argv[1])), Wake(Path(sys.argv[2]))
    ticket = here.ticket()
    print("ready", flush=True)
    for _ in range(int(sys.argv[3])):
        await here.wait(ticket, timeout_s=60)
        ticket = here.ticket()
        there.notify_others()
    here.close()
    there.close()

if sys.argv[4] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_between_processes(tmp_path: Path, loop: str) -> None:
    """A wake-up goes to another process and back in milliseconds, on both event loops."""
    rounds = 50
    back, there = Wake(tmp_path / "back"), Wake(tmp_path / "there")
    ticket = back.ticket()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ECHO, tmp_path / "there", tmp_path / "back", str(rounds), loop),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await soon(process.stdout.readline()) == b"ready\n"
        times = []
        for _ in range(rounds):
            started = time.monotonic()
            there.notify_others()
            await soon(back.wait(ticket, timeout_s=LONG_S))
            ticket = back.ticket()
            times.append(time.monotonic() - started)
        await soon(process.wait())
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        back.close()
        there.close()
    assert sorted(times)[rounds // 2] < SAFETY_S / 2  # a lost wake-up takes all of it
