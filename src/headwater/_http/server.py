"""Runs an ASGI app with uvicorn inside the running event loop: bind check, start, bounded drain."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Literal, Self

import msgspec
import uvicorn

from headwater._http.crowd import connections_max
from headwater._http.protocol import JoiningProtocol
from headwater._http.signal import wait_for
from headwater._os.ports import listening
from headwater.errors import Draining, StartupError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

_BACKLOG = 2048
_CANCEL_GRACE_S = 1.0
_SETTLE_TURNS = 5


class AsgiServer:
    """One ASGI app on one port of the running event loop.

    No signal handlers are installed and no logging is configured: both belong to the program.
    Start it once; a stopped server is not started again.
    """

    def __init__(
        self,
        app: AsgiApp,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        lifespan: bool = False,
        keep_alive_s: int = 75,
        name: str = "the server",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Describe the server; nothing is bound yet.

        Args:
            app: the ASGI 3 application.
            host: address to listen on.
            port: port to listen on; 0 lets the system choose.
            lifespan: whether the app's lifespan events are run (a failing start-up raises).
            keep_alive_s: idle connections live this long; longer than a proxy keeps its own, so
                that the proxy never writes into a connection that is being closed.
            name: who speaks in a 503 answer during the drain.
            tls: with which connections are encrypted; None: they are not.
        """
        self._app = app
        self._host = host
        self._port = port
        self._name = name
        self._tls = tls
        self._lifespan = lifespan
        self._keep_alive_s = keep_alive_s
        self._closing = asyncio.Event()
        self._server: _Server | None = None
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self._host

    @property
    def port(self) -> int:
        """The port it listens on; the chosen one after `start`."""
        return self._port

    @property
    def scheme(self) -> Literal["http", "https"]:
        """How to call it."""
        return "http" if self._tls is None else "https"

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        every = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
        host = every.get(self._host, self._host)
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self._port}"

    async def start(self) -> None:
        """Bind, then serve; requests are answered when this returns.

        Raises:
            AddressInUse: another process listens on the port.
            ConfigurationError: the address is not one of this machine, or not allowed.
            StartupError: the app's own start-up failed.
        """
        sock = await listening(self._host, self._port, backlog=_BACKLOG)
        self._socket = sock
        self._port = sock.getsockname()[1]
        config = uvicorn.Config(
            self._serve_request,
            interface="asgi3",
            http=JoiningProtocol,
            ws="websockets-sansio",
            lifespan="on" if self._lifespan else "off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=self._keep_alive_s,
            backlog=_BACKLOG,
        )
        config.load()
        config.ssl = self._tls
        config.connections_max = connections_max()  # type: ignore[attr-defined]  # of our protocol
        self._server = server = _Server(config)
        self._task = asyncio.create_task(_run(server, sock), name=f"serve {self.url}")
        ready = asyncio.create_task(server.ready.wait())
        try:
            await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.stop(0)
            raise
        finally:
            ready.cancel()
        if not server.ready.is_set():
            sock.close()
            cause = self._task.exception()
            reason = f"the application's own start-up failed: {cause or 'see its log'}"
            raise StartupError(subject=self._name, reason=reason) from cause

    async def stop(self, grace_s: float = 10.0) -> None:
        """Accept nothing new, end event streams, let requests finish, then cancel the rest.

        A request that is cancelled before it answered gets a 503 problem document. Twice is fine.

        Args:
            grace_s: how long requests in progress may take.
        """
        if self._server is None or self._task is None:
            return
        self._closing.set()
        self._server.config.timeout_graceful_shutdown = grace_s  # type: ignore[assignment] # fractions of a second work too
        await self._accept_no_more()
        self._server.exit()
        with contextlib.suppress(SystemExit):
            await asyncio.shield(self._task)
        left = set(self._server.server_state.tasks)
        if left:
            await asyncio.wait(left, timeout=_CANCEL_GRACE_S)
        for _ in range(_SETTLE_TURNS):  # a connection may be just between accepted and made
            for connection in list(self._server.server_state.connections):
                transport = getattr(connection, "transport", None)
                if transport is not None:
                    transport.abort()
            await asyncio.sleep(0)

    async def _accept_no_more(self) -> None:
        # Closing a listener while a connection is between accepted and made leaks that connection
        # on CPython 3.11: stop accepting first, and let those finish.
        if self._socket is not None and self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            for _ in range(_SETTLE_TURNS):
                await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def _serve_request(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(self._closing, receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            if not self._closing.is_set():
                raise
            if not exchange.started:
                await exchange.refuse(Draining(service=self._name))
                return
        if exchange.streaming and not exchange.finished:
            await exchange.finish()


class _Exchange:
    """One request; an event stream sees a disconnect when the server stops."""

    __slots__ = ("_closing", "_receive", "_send", "finished", "started", "streaming")

    def __init__(self, closing: asyncio.Event, receive: Receive, send: Send) -> None:
        self._closing = closing
        self._receive = receive
        self._send = send
        self.started = self.streaming = self.finished = False

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.started = True
            for name, value in message.get("headers", ()):
                if name.lower() == b"content-type" and value.startswith(b"text/event-stream"):
                    self.streaming = True
        elif self.streaming and not message.get("more_body", False):
            self.finished = True
        return self._send(message)

    def receive(self) -> Awaitable[Message]:
        return self._receive_or_end() if self.streaming else self._receive()

    async def _receive_or_end(self) -> Message:
        message = asyncio.ensure_future(self._receive())
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({message, closing}, return_when=asyncio.FIRST_COMPLETED)
            return message.result() if message.done() else {"type": "http.disconnect"}
        finally:
            message.cancel()
            closing.cancel()

    async def finish(self) -> None:
        self.finished = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def refuse(self, error: Draining) -> None:
        body = msgspec.json.encode(error.to_problem())
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", b"1"),
            (b"connection", b"close"),
        ]
        await self._send({"type": "http.response.start", "status": 503, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers, told to stop through an event instead of polling."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._exit = asyncio.Event()

    def exit(self) -> None:
        self.should_exit = True
        self._exit.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        # The parent counts tenths of a second; every tenth refreshes the Date header.
        while not await self.on_tick(0):
            await wait_for(self._exit, 1.0)


async def _run(server: _Server, sock: socket.socket) -> None:
    try:
        await server.serve(sockets=[sock])
    except SystemExit as error:  # uvicorn's way to report a failed lifespan start
        msg = "the server gave up during its start"
        raise RuntimeError(msg) from error


__all__ = ["AsgiApp", "AsgiServer"]
