"""The supervisor's side of the fork server: asks for processes, reads them, sees them end."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headwater.cli.supervising.supervised import SUPERVISOR
from headwater.errors import ConfigurationError

Lines = Callable[[bytes], None]

_LOST = -signal.SIGKILL  # how a process ended of which we know nothing any more
_LINE_BYTES = 64 * 1024


class Process:
    """One running process."""

    def __init__(self, pid: int) -> None:
        """Watch a process."""
        self.pid = pid
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.silent = asyncio.Event()
        self.silent.set()

    async def wait(self) -> int:
        """Return the exit code (negative: the signal) when it has ended and all output is read."""
        code = await asyncio.shield(self.ended)
        with contextlib.suppress(TimeoutError):  # a grandchild may keep the pipe open
            await asyncio.wait_for(self.silent.wait(), 0.5)
        return code

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Spawner:
    """Starts processes through a fork server, which is started again when it dies."""

    def __init__(self, folder: Path) -> None:
        """Start processes in a working directory; the fork server begins to warm up at once."""
        self._folder = folder
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[int]] = {}
        self._running: dict[int, Process] = {}
        self._early: dict[int, int] = {}  # ended before we heard that they started
        self._reader: asyncio.Task[None] | None = None
        self._open()

    def _open(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._forkserver = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                    [
                        sys.executable,
                        "-m",
                        "headwater.cli.supervising.forkserver",
                        str(theirs.fileno()),
                    ],
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C at the terminal is ours to handle
                    stdin=subprocess.DEVNULL,
                    cwd=self._folder,
                    env={**os.environ, SUPERVISOR: str(os.getpid())},
                )
            except OSError as error:
                ours.close()
                raise ConfigurationError(
                    subject=str(self._folder), reason=f"no process can be started there: {error}"
                ) from error
        ours.setblocking(False)
        self._socket = ours

    async def spawn(
        self, arguments: Sequence[str], environment: Mapping[str, str], lines: Lines
    ) -> Process:
        """Start ``headwater <arguments>``; ``lines`` gets each line of its output."""
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read(), name="fork server")
        number = next(self._numbers)
        self._asked[number] = asked = asyncio.get_running_loop().create_future()
        read, write = os.pipe()
        try:
            request = {
                "id": number,
                "arguments": list(arguments),
                "environment": {**os.environ, **environment},
            }
            self._send(msgspec.json.encode(request) + b"\n", write)
            pid = await asked
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
            self._asked.pop(number, None)
        process = self._running[pid] = Process(pid)
        if pid in self._early:
            self._end(pid, self._early.pop(pid))
        await _pump(read, process, lines)
        return process

    def _send(self, data: bytes, descriptor: int) -> None:
        self._socket.setblocking(True)  # a request is small, the fork server reads at once
        try:
            sent = socket.send_fds(self._socket, [data], [descriptor])
            self._socket.sendall(data[sent:])
        except OSError as error:
            raise ConnectionResetError(str(error)) from error
        finally:
            self._socket.setblocking(False)

    async def _read(self) -> None:
        """Take in what the fork server says; when it dies, so have all its children."""
        loop, buffer = asyncio.get_running_loop(), b""
        while data := await _received(loop, self._socket):
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self._take(msgspec.json.decode(line))
        self._socket.close()
        self._forkserver.wait()
        for pid in list(self._running):
            self._end(pid, _LOST)
        self._open()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(ConnectionResetError("the fork server has died"))

    def _take(self, answer: dict[str, Any]) -> None:
        if "code" in answer:
            self._end(answer["pid"], answer["code"])
        elif (asked := self._asked.get(answer["id"])) is not None and not asked.done():
            asked.set_result(answer["pid"])

    def _end(self, pid: int, code: int) -> None:
        process = self._running.pop(pid, None)
        if process is None:
            self._early[pid] = code
        elif not process.ended.done():
            process.ended.set_result(code)

    async def close(self) -> None:
        """End the fork server, and with it whatever still runs. Twice is fine."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        self._socket.close()
        self._forkserver.kill()
        self._forkserver.wait()


async def _received(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bytes:
    try:
        return await loop.sock_recv(sock, 65536)
    except OSError:
        return b""


class _Output(asyncio.Protocol):
    """Cuts what a process writes into lines; a very long one is passed on in parts."""

    def __init__(self, process: Process, lines: Lines) -> None:
        self._process = process
        self._lines = lines
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._lines(line)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  # see Protocol
        if self._rest:
            self._lines(self._rest)
        self._process.silent.set()


async def _pump(descriptor: int, process: Process, lines: Lines) -> None:
    process.silent.clear()
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    await loop.connect_read_pipe(lambda: _Output(process, lines), pipe)
