"""Commands and queries through the HTTP edge of one service process, driven by wrk.

wrk is a program of its own: Debian's package ``wrk``.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.harness import Measured, benchmark

SECONDS = 4
CONNECTIONS = 64

_COMMANDS = """
local n = 0
request = function()
  n = n + 1
  local path = "/accounts/" .. (n % 1000) .. "/withdrawals"
  return wrk.format("POST", path, {["content-type"] = "application/json"}, '{"amount":1}')
end
"""
_QUERIES = """
local n = 0
request = function()
  n = n + 1
  return wrk.format("GET", "/accounts/" .. (n % 1000))
end
"""


@contextmanager
def _service(role: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as data:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.http_service", data, role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdin
        assert process.stdout
        lines = iter(process.stdout.readline, "")
        try:
            url = next((line.strip() for line in lines if line.startswith("http")), "")
            assert url, "the service did not start: python -m benchmarks.http_service DIR all"
            yield url
        finally:
            process.stdin.close()
            process.wait(30)
            process.stdout.close()


def _wrk(url: str, script: str) -> float:
    if shutil.which("wrk") is None:
        raise FileNotFoundError("wrk is not installed: apt-get install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}", "-s", file.name, url]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    assert refused is None, output
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert found, output
    return float(found[1])


@benchmark("http.commands", unit="requests/s", runs=3)
def http_commands() -> Measured:
    """Durable commands over 1,000 accounts, 64 connections, one service process."""
    with _service("command") as url:
        return Measured(_wrk(url, _COMMANDS))


@benchmark("http.queries", unit="requests/s", runs=3)
def http_queries() -> Measured:
    """Queries by key over 1,000 accounts, 64 connections, one service process."""
    with _service("all") as url:
        return Measured(_wrk(url, _QUERIES))
