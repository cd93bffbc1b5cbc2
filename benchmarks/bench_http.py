"""Commands and queries through the HTTP edge of one service process, driven by wrk.

wrk is a program of its own: Debian's package ``wrk``.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

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


class _Load(NamedTuple):
    """What one run of wrk brought."""

    requests_s: float
    cpu_us: float
    """Processor time of the service for each request, in all its threads; Linux only."""


@contextmanager
def service_process(role: str) -> Iterator[tuple[str, int]]:
    """Run the benchmarks' bank in a process of its own; give its URL and its process's number."""
    with tempfile.TemporaryDirectory() as data, running_module("http_service", data, role) as found:
        yield found


@contextmanager
def running_module(module: str, *args: str) -> Iterator[tuple[str, int]]:
    """Run a service in a process of its own; give its URL and its process's number."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}", *args],
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
        assert url, f"the service did not start: python -m benchmarks.{module} {' '.join(args)}"
        yield url, process.pid
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def _wrk(role: str, script: str) -> _Load:
    if shutil.which("wrk") is None:
        raise FileNotFoundError("wrk is not installed: apt-get install wrk")
    with (
        service_process(role) as (url, pid),
        tempfile.NamedTemporaryFile("w", suffix=".lua") as file,
    ):
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}", "-s", file.name, url]
        before = _cpu_s(pid)
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        used_s = _cpu_s(pid) - before
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    assert refused is None, output
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    requests = re.search(r"(\d+) requests in", output)
    assert rate, output
    assert requests, output
    return _Load(float(rate[1]), used_s / int(requests[1]) * 1e6)


def _cpu_s(pid: int) -> float:
    """Return the seconds of processor time that a process has used (proc(5): utime, stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@benchmark("http.commands", unit="requests/s", runs=3)
def http_commands() -> Measured:
    """Durable commands over 1,000 accounts, 64 connections, one service process."""
    return Measured(_wrk("command", _COMMANDS).requests_s)


@benchmark("http.queries", unit="requests/s", runs=3)
def http_queries() -> Measured:
    """Queries by key over 1,000 accounts, 64 connections, one service process."""
    return Measured(_wrk("all", _QUERIES).requests_s)


@benchmark("http.cpu.commands", unit="µs/request", runs=3)
def http_cpu_commands() -> Measured:
    """The processor time of a command: what a busy machine does not blur."""
    return Measured(_wrk("command", _COMMANDS).cpu_us)


@benchmark("http.cpu.queries", unit="µs/request", runs=3)
def http_cpu_queries() -> Measured:
    """The processor time of a query."""
    return Measured(_wrk("all", _QUERIES).cpu_us)
