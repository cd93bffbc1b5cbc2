"""A line to a server that can be cut, or go silent, at any moment."""

import asyncio
import contextlib
from typing import Self


class Line:
    """Listens at ``port`` of loopback for the length of a block, and passes on to a server."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.port = 0
        self.passed = 0
        """Bytes that came from the clients."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._flows.set()
        self.cut()
        await self._server.wait_closed()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lead_to(self, server_port: int) -> None:
        """Let new connections go to another port."""
        self._server_port = server_port

    def cut(self) -> None:
        """Break all connections, with a reset; new ones are accepted."""
        for writer in self._writers:
            writer.transport.abort()

    def hold(self) -> None:
        """Let nothing through any more; connections stay."""
        self._flows.clear()

    def let_go(self) -> None:
        """Let through what was held."""
        self._flows.set()

    async def _connected(self, up: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(back)
        try:
            down, forth = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            back.transport.abort()
            return
        self._writers.add(forth)
        try:
            await asyncio.gather(
                self._pass_on(up, forth, count=True), self._pass_on(down, back, count=False)
            )
        finally:
            for writer in (back, forth):
                writer.transport.abort()
                self._writers.discard(writer)
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, count: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._flows.wait()
                self.passed += len(data) if count else 0
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
