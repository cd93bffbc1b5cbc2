"""How long it takes until something answers: importing the package, starting the whole bank."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import msgspec

from benchmarks.harness import Measured, benchmark

BANK = Path(__file__).parents[1] / "examples/bank"


def _python(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - began) * 1000


@benchmark("start.import", unit="ms", peer="python -c pass", runs=9)
def start_import() -> Measured:
    """``import headwater`` in a new interpreter, less the interpreter's own start."""
    empty = _python("pass")
    return Measured(_python("import headwater") - empty, empty)


@benchmark("start.import.service", unit="ms", peer="python -c pass", runs=9)
def start_import_service() -> Measured:
    """Everything that an instance of a service imports, less the interpreter's own start."""
    empty = _python("pass")
    return Measured(_python("import headwater.service.runtime") - empty, empty)


@benchmark("start.up", unit="s", runs=3)
async def start_up() -> Measured:
    """``headwater up`` of the bank: ten processes, until the gateway has answered a command."""
    with tempfile.TemporaryDirectory() as data:
        ready = Path(data) / "ready.json"
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headwater.cli", "up", "--file", str(BANK / "headwater.toml")),
            *("--port", "0", "--discovery-port", "0", "--config-port", "0"),
            *("--ready-file", str(ready)),
            env={**os.environ, "HEADWATER_DATA": data},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(60), aiohttp.ClientSession() as session:
                while not ready.exists() and process.returncode is None:  # noqa: ASYNC110  # its file
                    await asyncio.sleep(0.01)
                gateway = msgspec.json.decode(ready.read_bytes())["gateway"]
                content = {"customer_id": "c", "name": "C", "email": "c@x.example"}
                async with session.post(f"{gateway}/customers", json=content) as answer:
                    answer.raise_for_status()
            return Measured(time.perf_counter() - began)
        finally:
            process.terminate()
            await process.wait()
