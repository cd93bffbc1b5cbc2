"""Runs the shell lines of a page against the system that the page is about."""

import asyncio
import json
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from tests.consoles import ROOT, consoles_of

_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^```\w+\n# (\S+\.(?:py|toml|yaml))\n(.*?)^```$", re.MULTILINE | re.DOTALL)
START_S = 60


class Line(msgspec.Struct, frozen=True):
    """A curl line of a page, and the status that its comment promises."""

    text: str
    status: int


def curl_lines(page: Path) -> list[Line]:
    """Return the curl lines; ``# 404: ...`` promises a status, without one it is 200."""
    lines = [line for block in _BLOCK.findall(page.read_text()) for line in block.splitlines()]
    found = []
    for line in lines:
        text, _, comment = line.partition("  # ")
        promised = re.match(r"([1-5]\d\d)\b", comment)
        if text.startswith("curl "):
            found.append(Line(text, int(promised[1]) if promised else 200))
    return found


def write_files(page: Path, folder: Path) -> None:
    """Write the files that a page shows: blocks that begin with ``# name``."""
    for name, text in _FILE.findall(page.read_text()):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@asynccontextmanager
async def system_in(folder: Path) -> AsyncIterator[str]:
    """Run ``headwater up`` in a folder, on free ports; give the gateway's URL."""
    ready = folder / "ready.json"
    ports = ("--port", "0", "--discovery-port", "0", "--config-port", "0")
    log = (folder / "up.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headwater.cli", "up", *ports, "--ready-file", str(ready)),
        cwd=folder,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(START_S):
            while not ready.exists() or not ready.stat().st_size:
                assert process.returncode is None, (folder / "up.log").read_text()
                await asyncio.sleep(0.05)
        yield json.loads(ready.read_text())["gateway"]
    finally:
        log.close()
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), START_S)


async def run_line(line: Line, gateway: str) -> tuple[int, str]:
    """Run one curl line as typed, but for the port; return status and body."""
    words = shlex.split(line.text.replace("localhost:8080", gateway.removeprefix("http://")))
    process = await asyncio.create_subprocess_exec(
        *words, "-w", "\n%{http_code}", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    body, _, status = output.decode().rpartition("\n")
    return int(status), body


async def play(page: Path, gateway: str) -> list[str]:
    """Run all curl lines of a page in order, and check their statuses; return the bodies.

    A read of what was just written is repeated until the views have caught up.
    """
    bodies = []
    for line in curl_lines(page):
        for _ in range(200):
            status, body = await run_line(line, gateway)
            if status == line.status or " -d " in line.text:
                break
            await asyncio.sleep(0.05)
        assert status == line.status, f"{line.text}\n{status}: {body}"
        bodies.append(body)
    return bodies


async def type_in(folder: Path, page: Path) -> list[str]:
    """Run the other lines of `headwater` of a page beside its running system, as typed.

    Returns what each printed: of one that follows for ever, the beginning.
    """
    registry = json.loads((folder / "ready.json").read_text())["discovery"]
    printed = []
    for typed in consoles_of(str(page.relative_to(ROOT))):
        words = typed.words
        if words[:1] != ["headwater"] or words == ["headwater", "up"]:
            continue
        if words[1] == "services":
            words += ["--discovery", registry]  # its port is another one here
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headwater.cli", *words[1:]),
            cwd=folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        if "--follow" in words:
            printed.append((await process.stdout.readline()).decode())
            process.terminate()
            await process.communicate()
            assert printed[-1]
        else:
            output, error = await process.communicate()
            assert process.returncode == 0, f"{typed.line}\n{error.decode()}"
            printed.append(output.decode())
    return printed
