"""Other Python processes that a test talks to, line by line; none outlives its test."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

WAIT_S_MAX = 30.0


class Peer:
    """A process running a script: lines in, lines out."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def tell(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()

    async def hear(self) -> str:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), WAIT_S_MAX)
        return line.decode().rstrip("\n")

    async def end(self) -> str:
        """Wait for its regular end; return what it still said."""
        out, _ = await asyncio.wait_for(self.process.communicate(), WAIT_S_MAX)
        assert self.process.returncode == 0
        return out.decode()

    async def kill(self) -> None:
        self.process.kill()
        await asyncio.wait_for(self.process.wait(), WAIT_S_MAX)


@asynccontextmanager
async def peer(script: Path, *arguments: object) -> AsyncIterator[Peer]:
    """Run a script for the length of a block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Peer(process)
    finally:
        if process.returncode is None:
            process.kill()
        # Not wait(): communicate() also closes the pipes.
        await asyncio.wait_for(process.communicate(), WAIT_S_MAX)
