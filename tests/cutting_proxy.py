"""A way to PostgreSQL that is cut at the worst moments, in a process of its own.

It reads the protocol: what goes up is divided into requests (a simple query, all up to a Sync, or
all up to the end of a COPY), what comes down into their answers (all up to ReadyForQuery, or until
a COPY may begin). A request that is to be cut is cut in one of the ways of `HOWS`, on both sides,
by a reset or by an orderly end.

In tests: ``async with CuttingProxy(port) as proxy``, then `CuttingProxy.tell` what to cut.
"""
# ruff: noqa: T201  # its output is how the process reports to the test

import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

HOWS = ("before", "late", "after", "within", "behind", "beside")
"""Where a connection is cut.

before: the request does not reach the server.
late: the client is cut off first; the request reaches the server a moment later.
after: the server has carried it out; nothing of the answer reaches the client.
within: some bytes of the answer reach the client.
behind: all of the answer reaches the client, and right behind it the end of the connection.
beside: it comes within the next moments, such as while the client gives the connection back.
"""

COMMIT = "COMMIT\0"
"""The end of a request that commits."""

_WAIT_S_MAX = 30.0
_LATE_S = 0.4
_BESIDE_S_MAX = 0.0006
_SSL_REQUEST, _STARTUP = 80877103, 196608


class CuttingProxy:
    """Runs a proxy to a server for the length of a block.

    Attributes:
        url: what was asked for, through the proxy.
    """

    def __init__(self, url: str, *, seed: int = 0) -> None:
        """Prepare; what is drawn by chance begins with the seed."""
        self._parts = urlsplit(url)
        options = dict(parse_qsl(self._parts.query))
        self._host = self._parts.hostname or options.pop("host", "127.0.0.1")
        self._server_port = self._parts.port or int(options.pop("port", "5432"))
        self._options = urlencode(options)
        self._seed = seed
        self._turn = asyncio.Lock()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, self._host, str(self._server_port), str(self._seed),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        port = (await self._hear())["port"]
        user, at, _ = self._parts.netloc.rpartition("@")
        through = self._parts._replace(netloc=f"{user}{at}127.0.0.1:{port}", query=self._options)
        self.url = through.geturl()
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.wait_for(self._process.communicate(), _WAIT_S_MAX)

    async def tell(
        self,
        *,
        hows: Sequence[str] = HOWS,
        chance: float = 0.0,
        cuts: int = 1_000_000,
        only: str = COMMIT,
        closed: bool = False,
        closing: bool = False,
        held: str = "",
        then: dict[str, Any] | None = None,
    ) -> Counter[str]:
        """Say what to cut from now on; return how often it was cut in each way so far.

        Args:
            hows: the ways, one of which is drawn each time.
            chance: how often a request that could be cut is.
            cuts: after so many it is over.
            only: what a request must contain, or the statement that it runs.
            closed: new connections are refused.
            closing: they are from the next cut on.
            held: nothing gets through any more "up" to the server, or "down", until told otherwise;
                connections stay.
            then: what to change of this when it is over.
        """
        told = {
            "hows": list(hows), "chance": chance, "cuts": cuts, "only": only,
            "closed": closed, "closing": closing, "held": held, "then": then or {},
        }  # fmt: skip
        assert self._process.stdin is not None
        async with self._turn:
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            await self._process.stdin.drain()
            return Counter((await self._hear())["cut"])

    async def cut(self, how: str, *, only: str = COMMIT, closing: bool = False) -> None:
        """Cut the next request that contains a text."""
        await self.tell(hows=[how], chance=1.0, cuts=1, only=only, closing=closing)

    async def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), _WAIT_S_MAX)
        heard: dict[str, Any] = json.loads(line)
        return heard


class _Plan:
    """What is to be cut."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)  # not for secrets
        self.cut: Counter[str] = Counter()
        self.hows: list[str] = []
        self.chance = 0.0
        self.cuts = 0
        self.only = b""
        self.closed = self.closing = False
        self._told: dict[str, Any] = {}
        self.passes = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._hold("")

    def _hold(self, held: str) -> None:
        for way, passes in self.passes.items():
            if way == held:
                passes.clear()
            else:
                passes.set()

    def told(self, new: dict[str, Any]) -> None:
        self._told = new
        self._hold(new["held"])
        self.hows, self.chance, self.cuts = new["hows"], new["chance"], new["cuts"]
        self.only = new["only"].encode()
        self.closed, self.closing = new["closed"], new["closing"]

    def how(self, request: bytes) -> str:
        """Return how to cut a request, if at all."""
        if not self.cuts or self.only not in request or self._draw.random() >= self.chance:
            return ""
        self.cuts -= 1
        self.closed = self.closed or self.closing
        how = self._draw.choice(self.hows)
        self.cut[how] += 1
        if not self.cuts and self._told["then"]:
            self.told({**self._told, "then": {}, **self._told["then"]})
        return how

    def part(self, answer: bytes) -> bytes:
        return answer[: self._draw.randrange(1, len(answer))]

    def moment_s(self) -> float:
        return self._draw.uniform(0.0, _BESIDE_S_MAX)

    def abruptly(self) -> bool:
        return self._draw.random() < 0.5


class _Messages:
    """Divides a stream of bytes into messages: a type of one byte, a length, the rest."""

    def __init__(self) -> None:
        self._bytes = b""

    def feed(self, data: bytes, *, typed: bool = True) -> list[bytes]:
        self._bytes += data
        found = []
        offset = int(typed)
        while len(self._bytes) >= offset + 4:
            end = offset + struct.unpack_from("!I", self._bytes, offset)[0]
            if len(self._bytes) < end:
                break
            found.append(self._bytes[:end])
            self._bytes = self._bytes[end:]
            if not typed:
                break
        return found

    def rest(self) -> bytes:
        rest, self._bytes = self._bytes, b""
        return rest


class _Connection:
    """One connection on its way."""

    def __init__(
        self,
        plan: _Plan,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._plan = plan
        self._from_client, self._to_client = client
        self._from_server, self._to_server = server
        self._statements: dict[bytes, bytes] = {}  # by name, as they were prepared
        self._how = ""  # how the answer that is awaited is cut

    async def serve(self) -> None:
        if await self._greeted():
            down = asyncio.ensure_future(self._downwards())
            up = asyncio.ensure_future(self._upwards())
            await asyncio.wait([down, up], return_when=asyncio.FIRST_COMPLETED)
            if self._how == "after":  # the server shall have carried it out
                await asyncio.wait([down])
            down.cancel()
            up.cancel()
            await asyncio.gather(down, up, return_exceptions=True)

    async def _greeted(self) -> bool:
        """Pass the beginning on; return whether it is a session, and none that cancels another."""
        messages = _Messages()
        while data := await self._from_client.read(65536):
            for message in messages.feed(data, typed=False):
                self._to_server.write(message)
                code = struct.unpack_from("!I", message, 4)[0]
                if code == _SSL_REQUEST:
                    self._to_client.write(await self._from_server.readexactly(1))
                elif code == _STARTUP:
                    assert not messages.rest()
                    return True
                else:
                    await self._from_server.read()
                    return False
        return False

    async def _upwards(self) -> None:
        messages, request, runs = _Messages(), b"", b""
        while data := await self._from_client.read(65536):
            await self._plan.passes["up"].wait()
            for message in messages.feed(data):
                request += message
                if message[:1] == b"P":
                    name, statement, _ = message[5:].split(b"\0", 2)
                    self._statements[name] = statement
                elif message[:1] == b"B":
                    runs = self._statements.get(message[5:].split(b"\0", 2)[1], b"")
                if message[:1] == b"H":  # a flush: the client waits for the answer to a part
                    self._to_server.write(request)
                    request = b""
                elif message[:1] in b"QSc":
                    if not await self._pass_up(request, runs):
                        return
                    request = runs = b""
            if messages_without_end(request):
                self._to_server.write(request)
                request = b""

    async def _pass_up(self, request: bytes, runs: bytes) -> bool:
        """Pass a request on; return whether to go on."""
        self._how = self._plan.how(runs + request)
        if self._how == "before":
            return False
        if self._how == "late":
            _end(self._to_client, abruptly=self._plan.abruptly())
            await asyncio.sleep(_LATE_S)
            self._how = "after"
        self._to_server.write(request)
        return True

    async def _downwards(self) -> None:
        messages, answer = _Messages(), b""
        while data := await self._from_server.read(65536):
            await self._plan.passes["down"].wait()
            if not self._how:
                self._to_client.write(data)
            for message in messages.feed(data):
                answer += message
                if message[:1] not in b"ZG":
                    continue
                if self._how:
                    self._cut(answer)
                    return
                answer = b""
            if len(answer) > 1 << 20:  # such are not cut
                answer = b""

    def _cut(self, answer: bytes) -> None:
        if self._how == "within":
            self._to_client.write(self._plan.part(answer))
        elif self._how in ("behind", "beside"):
            self._to_client.write(answer)
        if self._how == "beside":
            ends = time.perf_counter() + self._plan.moment_s()
            while time.perf_counter() < ends:  # to sleep would take a millisecond at least
                pass

    def end(self) -> None:
        abruptly = self._plan.abruptly()
        _end(self._to_client, abruptly=abruptly and not self._to_client.is_closing())
        _end(self._to_server, abruptly=False)


def messages_without_end(request: bytes) -> bool:
    """Whether what was gathered is of the kind that no Sync follows: a goodbye."""
    return request[:1] == b"X"


def _end(writer: asyncio.StreamWriter, *, abruptly: bool) -> None:
    """End a connection: with a reset, which still comes behind what was written, or in order."""
    if abruptly and (end := writer.get_extra_info("socket")) is not None:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)


async def _serve(host: str, server_port: int, seed: int) -> None:
    plan = _Plan(seed)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if plan.closed:
                writer.close()
                return
            connection = _Connection(plan, (reader, writer), await _connect(host, server_port))
            try:
                await connection.serve()
            finally:
                connection.end()

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    print(json.dumps({"port": port}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        plan.told(json.loads(line))
        print(json.dumps({"cut": plan.cut}), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
