"""A connection to PostgreSQL that breaks exactly when a commit is under way."""

import asyncio
import contextlib
from asyncio import CancelledError
from typing import Literal, Self

COMMIT = b"COMMIT\0"


class CuttingProxy:
    """Passes everything on, and breaks connections as told.

    ``cut`` breaks the connection of the next commit: before it reaches the server, or after the
    server has answered but before the answer is passed on. ``closed`` then keeps new ones out.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut: Literal["", "before", "after"] = ""
        self.closed = False
        self.close_with_cut = False
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, CancelledError):
            if self.closed:
                return
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
            with contextlib.closing(up_writer):
                answers = asyncio.create_task(self._pass_on(up_reader, writer))
                try:
                    commit = await self._commands(reader, up_writer)
                finally:
                    answers.cancel()
                    await asyncio.gather(answers, return_exceptions=True)
                if commit:
                    up_writer.write(commit)
                    await up_reader.read(4096)  # the server has answered, so it has committed

    async def _commands(self, reader: asyncio.StreamReader, up: asyncio.StreamWriter) -> bytes:
        """Pass commands on; return the commit after which to break, empty to break at once."""
        while data := await reader.read(65536):
            if self.cut and data.endswith(COMMIT):
                how, self.cut = self.cut, ""
                self.closed = self.close_with_cut
                return data if how == "after" else b""
            up.write(data)
            await up.drain()
        return b""

    async def _pass_on(self, up: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await up.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
