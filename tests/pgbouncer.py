"""A real pgbouncer in front of a server of the tests."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import pytest

from tests.ports import HeldPort
from tests.postgres_server import PostgresServer

_WAIT_S_MAX = 30.0
_UNPRIVILEGED = 65534  # nobody: it refuses to run as root
_CONFIG = """
[databases]
* = host={server.directory} port={server.port} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
ignore_startup_parameters = {ignored}
"""


class Pooler:
    """One process, for ``with``; which parameters it passes over is up to the test."""

    def __init__(self, server: PostgresServer, *, mode: str, ignored: str) -> None:
        self.program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
        if self.program is None:  # not skipped: what it shows must be seen
            pytest.fail("pgbouncer is not here: sh scripts/apt-install.sh pgbouncer")
        self._port = HeldPort()
        self._directory = Path(tempfile.mkdtemp(prefix="hwpgb"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": _UNPRIVILEGED, "group": _UNPRIVILEGED, "extra_groups": []}
            os.chown(self._directory, _UNPRIVILEGED, _UNPRIVILEGED)
        port = self._port.number
        config = _CONFIG.format(server=server, port=port, mode=mode, ignored=ignored)
        (self._directory / "ini").write_text(config)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, **options: str) -> str:
        """Return the URL of the database behind it."""
        given = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://postgres@127.0.0.1:{self._port.number}/postgres?{given}"

    def __enter__(self) -> Self:
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.program), str(self._directory / "ini")],
                cwd="/",
                stdout=log,
                stderr=log,
                **self._as,
            )
        deadline = time.monotonic() + _WAIT_S_MAX
        while True:
            assert self._process.poll() is None, (self._directory / "log").read_text()
            assert time.monotonic() < deadline, (self._directory / "log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port.number)) == 0:
                    return self
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(_WAIT_S_MAX)
        self._port.release()
        shutil.rmtree(self._directory, ignore_errors=True)
