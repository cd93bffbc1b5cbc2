"""A way to the server that can be cut at the worst moment: a proxy between client and server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Passes bytes on; `cut_before` and `cut_after` break the connection at the next append.

    Attributes:
        cut_before: break before the server gets the request.
        cut_after: break when the server has answered, before the client gets the answer.
        closed: refuse new connections.
        cuts: how many connections were cut.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.cut_before = self.cut_after = self.closed = False
        self.cuts = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.closed:
            writer.transport.abort()
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, up_writer]
        state = {"appending": False}
        for pump in (
            self._upwards(reader, up_writer, writer, state),
            self._downwards(up_reader, writer, up_writer, state),
        ):
            task = asyncio.ensure_future(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _upwards(
        self,
        reader: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        state: dict[str, bool],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                if b"[MARK]" in data:  # only the events of an append have it
                    state["appending"] = True
                    if self.cut_before:
                        self.cut_before = False
                        self._cut(client, server)
                        return
                server.write(data)
        server.close()

    async def _downwards(
        self,
        reader: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        server: asyncio.StreamWriter,
        state: dict[str, bool],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                if state["appending"] and self.cut_after:
                    self.cut_after = False
                    self._cut(client, server)
                    return
                client.write(data)
        client.close()

    def _cut(self, *writers: asyncio.StreamWriter) -> None:
        self.cuts += 1
        for writer in writers:
            writer.transport.abort()

    async def stop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for writer in self._writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def proxied(port: int) -> AsyncIterator[tuple[Proxy, int]]:
    """Run a proxy to a port; give it and its own port."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield proxy, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await proxy.stop()
        await server.wait_closed()
