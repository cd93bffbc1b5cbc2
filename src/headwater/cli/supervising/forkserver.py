"""The fork server: imports everything once, then forks a process per instance within milliseconds.

It runs as a child of ``headwater up``, has one thread and no event loop, and knows nothing of the
user's code: what an instance runs is imported after the fork, so a restart sees changed files.

Protocol, JSON lines over a socket: ``{"id", "arguments", "environment"}`` with the file
descriptor for the child's output asks for a child; answers are ``{"id", "pid"}`` and later
``{"pid", "code"}`` with the exit code, negative for a signal.
"""

import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
from typing import Any, NoReturn

import msgspec

from headwater.cli.supervising.supervised import SUPERVISOR, follow_supervisor

_MODULES = (
    "aiohttp",
    "apsw",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
    "headwater.cli.app",
    "headwater.cli.commands.platform",
    "headwater.cli.commands.run",
    "headwater.config.server",
    "headwater.discovery.server",
    "headwater.eventbus.sqlite",
    "headwater.eventstore.sqlite",
    "headwater.gateway",
    "headwater.service.runtime",
    "headwater.views.sqlite",
)


def main() -> None:
    """Serve the supervisor at the other end of file descriptor ``sys.argv[1]``."""
    follow_supervisor()
    _warm_up()
    with socket.socket(fileno=int(sys.argv[1])) as supervisor:
        _ForkServer(supervisor).serve()


def _warm_up() -> None:
    import importlib

    for module in _MODULES:
        # A broken module shows up in the child that needs it, with its own clear error.
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is shared by all children is never touched by their collectors


class _ForkServer:
    def __init__(self, supervisor: socket.socket) -> None:
        self._supervisor = supervisor
        self._buffer = b""
        self._descriptors: list[int] = []
        self._children: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    def serve(self) -> None:
        """Fork what is asked for, until the supervisor has gone."""
        signal.set_wakeup_fd(self._wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._supervisor, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == self._wake_read:
                    os.read(self._wake_read, 4096)
                    self._reap()
                elif not self._requests():
                    self._end_all()
                    return

    def _end_all(self) -> None:
        """The supervisor has gone: no child stays behind (elsewhere than on Linux, too)."""
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _requests(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._supervisor, 65536, 64)
        if not data:
            return False
        self._descriptors.extend(descriptors)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._start(msgspec.json.decode(line), self._descriptors.pop(0))
        return True

    def _start(self, request: dict[str, Any], output: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(request, output, parent)
        os.close(output)
        self._children.add(pid)
        self._tell(id=request["id"], pid=pid)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._children.discard(pid)
            self._tell(pid=pid, code=os.waitstatus_to_exitcode(status))

    def _tell(self, **values: Any) -> None:
        self._supervisor.sendall(msgspec.json.encode(values) + b"\n")

    def _become(self, request: dict[str, Any], output: int, parent: int) -> NoReturn:
        """Turn the forked process into the instance; never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()  # Ctrl-C at the terminal goes to the supervisor alone
            self._selector.close()
            self._supervisor.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            for target in (1, 2):
                os.dup2(output, target)
            os.close(output)
            os.environ.clear()
            os.environ.update(request["environment"])
            os.environ[SUPERVISOR] = str(parent)
            sys.path[:0] = os.environ.get("PYTHONPATH", "").split(os.pathsep)
            sys.argv = ["headwater", *request["arguments"]]
            code = _run(request["arguments"])
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def _run(arguments: list[str]) -> int:
    from headwater.cli.app import run_command_line

    try:
        run_command_line(arguments)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001  # nobody above us: report like the interpreter would
        import traceback

        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    main()
