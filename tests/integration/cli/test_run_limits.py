"""headwater run where the machine allows little."""

import contextlib
import os
import re
import socket
import subprocess
import time
from pathlib import Path

from tests.integration.cli.conftest import HEADWATER, SAMPLE, ask, eventually


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status_of(url: str) -> int:
    """Return the status of a new connection's request; 0 when it was closed without one."""
    try:
        return ask(f"{url}/health/live", timeout_s=5.0)[0]
    except OSError:
        return 0


def test_few_descriptors(tmp_path: Path) -> None:
    """With few descriptors an instance says so; who connects to it does not use them up."""
    script = 'ulimit -Sn 100 && ulimit -Hn 200 && exec "$@"'
    flags = ["--port", "0", "--set", f"data={tmp_path / 'data'}"]
    log = tmp_path / "run.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["sh", "-c", script, "sh", *HEADWATER, "run", "counting:service", *flags],
            cwd=SAMPLE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "NO_COLOR": "1"},
        )
    held: list[socket.socket] = []
    try:
        url = eventually("it is ready", lambda: re.search(r"ready .*url=(\S+)", log.read_text()))[1]
        assert (
            "200 descriptors may be open, expected 1024 or more: raise `ulimit" in log.read_text()
        )
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with contextlib.suppress(OSError):
            held.extend(socket.create_connection(address, 5) for _ in range(300))
        assert len(held) > 200
        eventually("it says that it is full", lambda: status_of(url) == 503)
        before = cpu_s(process.pid)
        time.sleep(1.0)  # what is measured is what it does when there is nothing to do
        assert cpu_s(process.pid) - before < 0.7
        assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) < 190
        for one in held:
            one.close()
        eventually("it answers", lambda: status_of(url) == 200)
        assert ask(f"{url}/counters/a", body={"by": 5})[0] == 200
        assert "Traceback" not in log.read_text()
    finally:
        for one in held:
            one.close()
        process.kill()
        process.wait()
