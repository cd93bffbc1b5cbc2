"""Connections to brokers, each until its first failure."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Self, TypeVar

from rstream import schema
from rstream.client import Client
from rstream.constants import OffsetType
from rstream.exceptions import (
    AccessRefused,
    AuthenticationFailure,
    ClientError,
    SASLAuthenticationFailureLoopback,
    SASLError,
    ServerError,
    StreamDoesNotExist,
    VirtualHostAccessFailure,
)

from headwater.errors import ConfigurationError, Outcome, StoreUnavailable
from headwater.eventbus.rabbitmq.settings import Place

T = TypeVar("T")

ANSWER_S_MAX = 30.0
"""How long the broker is waited for at most, each time."""

REFUSED = (
    AccessRefused,
    AuthenticationFailure,
    SASLAuthenticationFailureLoopback,
    SASLError,
    VirtualHostAccessFailure,
)
"""What the broker says to a user that it does not let in."""

_HEARTBEAT_S = 10
_SILENT_S_MAX = 3 * _HEARTBEAT_S
_FRAME_MAX = 2**31 - 1  # what the broker allows counts
_IDS = 256
_LEADER_TRIES = 50
_GOODBYE_S_MAX = 1.0

# All that it could tell is told by our errors, and what it says at the level DEBUG has passwords.
logging.getLogger("rstream").setLevel(logging.CRITICAL)  # noqa: TID251  # not a logger of ours

Deliver = Callable[[schema.Deliver], None]


class _Client(Client):
    """What the client lacks: it tells its end, however that comes, and leaves nothing open."""

    @property
    def heard_at(self) -> float:
        """When the broker last said something, in monotonic seconds."""
        return self._last_heartbeat

    def at_end(self, told: Callable[[], None]) -> None:
        self._tasks["listener"].add_done_callback(lambda _: told())

    async def sequence(self, stream: str, name: str) -> int:
        """Return the last id of a publisher; the client's own method takes a refusal for 0."""
        request = schema.QueryPublisherSequence(
            self._corr_id_seq.next(), publisher_ref=name, stream=stream
        )
        answer = await self.sync_request(request, schema.QueryPublisherSequenceResponse)
        return answer.sequence

    async def shut(self) -> None:
        """Close the connection; the broker is told, and not waited for."""
        connection, self._conn = self._conn, None
        if connection is not None and self.is_started and self.is_connection_alive():
            goodbye = schema.Close(self._corr_id_seq.next(), code=1, reason="OK")
            self._conn = connection
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_GOODBYE_S_MAX):
                    await self.send_frame(goodbye)
        self._is_not_closed = False
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer = None if connection is None else connection._writer  # noqa: SLF001  # it leaks
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_GOODBYE_S_MAX):
                    await writer.wait_closed()
            writer.transport.abort()


class Link:
    """One connection to one broker. After its first failure it is of no use any more."""

    def __init__(self, client: _Client, place: Place) -> None:
        """Take over an open connection; use `connect`."""
        self._client = client
        self._place = place
        self._lost = ""
        self._ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._told: dict[object, Callable[[], None]] = {}
        self._delivers: dict[int, Deliver] = {}
        self._last_id = -1

    @classmethod
    async def connect(cls, place: Place, *, host: str = "", port: int = 0) -> Self:
        """Connect to the broker of a place, or to another one of its cluster.

        Raises:
            ConfigurationError: the certificates cannot be used.
            StoreUnavailable: it cannot be reached, or does not let us in.
        """
        client = _Client(
            host or place.host,
            port or place.port,
            ssl_context=place.ssl_context(),
            frame_max=_FRAME_MAX,
            heartbeat=_HEARTBEAT_S,
            connection_name=f"headwater {place.bus}",
            connection_closed_handler=lambda _: None,
        )
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                await client.start()
                await client.authenticate(place.vhost, place.user, place.password)
            link = cls(client, place)
            await link._begin()
        except BaseException as error:
            await client.shut()
            if isinstance(error, Exception):
                raise unavailable(place, error, outcome="not stored") from error
            raise
        return link

    async def _begin(self) -> None:
        client = self._client
        client.at_end(lambda: self.lose("the connection broke"))
        client.add_handler(schema.Deliver, self._deliver, "0")
        client.add_handler(schema.MetadataUpdate, self._moved, "link")
        await client.run_queue_listener_task(0, self._deliver)
        client.start_task("watch", self._watch())

    @property
    def client(self) -> Client:
        """The connection itself."""
        return self._client

    @property
    def frame_max(self) -> int:
        """How many bytes a frame may have."""
        return self._client.frame_max

    @property
    def lost(self) -> bool:
        """Whether it has failed or was closed."""
        return bool(self._lost)

    def is_at(self, host: str, port: int) -> bool:
        """Whether this is a connection to the broker that advertises an address."""
        found: dict[str, str] = self._client.server_properties or {}
        return (found.get("advertised_host"), found.get("advertised_port")) == (host, str(port))

    def lose(self, reason: str) -> None:
        """Note a failure: everybody who waits is told."""
        if not self._lost:
            self._lost = reason
            self._ends.set_result(None)
            for told in list(self._told.values()):
                told()

    def at_end(self, key: object, told: Callable[[], None]) -> None:
        """Call something when it fails, until `forget`."""
        self._told[key] = told
        if self._lost:
            told()

    def forget(self, key: object) -> None:
        """Do not call any more what was given to `at_end`."""
        self._told.pop(key, None)

    def check(self, *, outcome: Outcome = "not stored") -> None:
        """Return if it has not failed.

        Raises:
            StoreUnavailable: it has.
        """
        if self._lost:
            raise self.failure(outcome=outcome)

    def failure(self, *, outcome: Outcome = "unknown") -> StoreUnavailable:
        """Return the error for who has waited for it."""
        return StoreUnavailable(store=self._place.name, reason=self._lost, outcome=outcome)

    async def ask(self, request: Coroutine[Any, Any, T], *, outcome: Outcome = "not stored") -> T:
        """Return the answer to a request.

        Raises:
            StoreUnavailable: the broker refused it, did not answer in time, or was lost meanwhile.
        """
        if self._lost:
            request.close()
            self.check(outcome="not stored")
        task = asyncio.ensure_future(request)
        either: set[asyncio.Future[Any]] = {task, self._ends}
        try:
            await asyncio.wait(either, timeout=ANSWER_S_MAX, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        except Exception as error:
            raise unavailable(self._place, error, outcome=outcome) from error
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self.lose("the broker does not answer")
        raise self.failure(outcome=outcome)

    async def wait_for(self, future: Awaitable[T], *, outcome: Outcome = "unknown") -> T:
        """Return what the broker sends at some time, as `ask` does."""

        async def waiting() -> T:
            return await future

        return await self.ask(waiting(), outcome=outcome)

    async def leader_of(self, stream: str) -> tuple[str, int]:
        """Return the advertised address of the leader of a stream; raises as `ask`."""
        leader, _ = await self.ask(self._client.query_leader_and_replicas(stream))
        return leader.host, leader.port

    async def sequence(self, stream: str, name: str) -> int:
        """Return the last publishing id of a named publisher, 0 for none; raises as `ask`."""
        return await self.ask(self._client.sequence(stream, name))

    async def subscribe(
        self, stream: str, offset: schema.OffsetSpec, deliver: Deliver, *, credit: int
    ) -> int:
        """Let a stream be delivered from an offset on; return the number of the subscription.

        Raises:
            StoreUnavailable: as `ask`.
        """
        number = next(
            (n % _IDS for n in range(self._last_id + 1, self._last_id + 1 + _IDS)
             if n % _IDS not in self._delivers), None,
        )  # fmt: skip
        if number is None:
            reason = f"{_IDS} partitions are being read on one connection, there can be no more"
            raise StoreUnavailable(store=self._place.name, reason=reason, outcome="not stored")
        self._last_id = number
        self._delivers[number] = deliver
        try:
            await self.ask(self._client.subscribe(stream, number, offset, initial_credit=credit))
        except BaseException:
            self._delivers.pop(number, None)
            raise
        return number

    async def unsubscribe(self, number: int) -> None:
        """End a subscription, if the connection is still there."""
        if not self._lost:
            self._delivers[number] = _nowhere
            with contextlib.suppress(StoreUnavailable):
                await self.ask(self._client.unsubscribe(number))
        self._delivers.pop(number, None)

    async def chunk_at(self, stream: str, which: OffsetType) -> schema.Deliver:
        """Return the first or the last chunk of a stream that is not empty; raises as `ask`."""
        found: asyncio.Future[schema.Deliver] = asyncio.get_running_loop().create_future()

        def deliver(chunk: schema.Deliver) -> None:
            if not found.done():
                found.set_result(chunk)

        number = await self.subscribe(stream, schema.OffsetSpec(which), deliver, credit=1)
        try:
            return await self.wait_for(found, outcome="not stored")
        finally:
            await self.unsubscribe(number)

    async def close(self) -> None:
        """Close the connection. Twice is fine."""
        self.lose("it has been closed: open it again")
        await self._client.shut()

    def _deliver(self, chunk: schema.Deliver) -> None:
        deliver = self._delivers.get(chunk.subscription_id)
        if deliver is not None:
            deliver(chunk)

    def _moved(self, update: schema.MetadataUpdate) -> None:
        self.lose(f"stream {update.metadata_info.stream!r} is not available there any more")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            if time.monotonic() - self._client.heard_at > _SILENT_S_MAX:
                self.lose(f"the broker was silent for {_SILENT_S_MAX} s")


class Links:
    """Connections to the leaders of some streams: opened when they are needed, all or none."""

    def __init__(self, place: Place, streams: Sequence[str]) -> None:
        """Prepare; nothing is opened before `get`."""
        self._place = place
        self._streams = streams
        self._found: dict[str, Link] = {}
        self._lock = asyncio.Lock()
        self._closed = False

    async def get(self) -> dict[str, Link]:
        """Return by stream the connection to its leader: the same object while they all hold.

        Raises:
            StoreUnavailable: a broker cannot be reached, or it was closed.
        """
        async with self._lock:
            if self._found and not any(link.lost for link in self._found.values()):
                return self._found
            await self._drop()
            if self._closed:
                raise closed(self._place)
            self._found = await _links_to(self._place, self._streams)
            return self._found

    async def drop(self) -> None:
        """Close all, and let them be opened again when they are needed."""
        for link in self._found.values():
            link.lose("the connection was given up")

    async def close(self) -> None:
        """Close all for good. Twice is fine."""
        self._closed = True
        for link in self._found.values():
            link.lose("it has been closed: open it again")
        async with self._lock:
            await self._drop()

    async def _drop(self) -> None:
        found, self._found = self._found, {}
        await asyncio.gather(*(link.close() for link in set(found.values())))


async def _links_to(place: Place, streams: Sequence[str]) -> dict[str, Link]:
    """Connect to the leaders of streams; those of one broker share a connection."""
    async with contextlib.AsyncExitStack() as undo:
        first = await Link.connect(place)
        undo.push_async_callback(first.close)
        links, found = [first], {}
        for stream in streams:
            host, port = await first.leader_of(stream)
            link = next((link for link in links if link.is_at(host, port)), None)
            if link is None:
                link = await _connect_to(place, host, port)
                undo.push_async_callback(link.close)
                links.append(link)
            found[stream] = link
        if first not in found.values():
            await first.close()
        undo.pop_all()
    return found


async def _connect_to(place: Place, host: str, port: int) -> Link:
    """Connect to the broker that advertises an address.

    Behind a load balancer that is tried until it is the right one.
    """
    if not place.load_balancer:
        return await Link.connect(place, host=host, port=port)
    for _ in range(_LEADER_TRIES):
        link = await Link.connect(place)
        if link.is_at(host, port):
            return link
        await link.close()
    reason = f"behind the load balancer {host}:{port} was not found in {_LEADER_TRIES} tries"
    raise StoreUnavailable(store=place.name, reason=reason, outcome="not stored")


def closed(place: Place) -> StoreUnavailable:
    """Return the error for who uses what was closed."""
    reason = "it has been closed: open it again"
    return StoreUnavailable(store=place.name, reason=reason, outcome="not stored")


def unavailable(place: Place, error: Exception, *, outcome: Outcome) -> Exception:
    """Return an error of the client or the system as one of ours."""
    if isinstance(error, (StoreUnavailable, ConfigurationError)):
        return error
    reason = str(error)
    if isinstance(error, REFUSED):
        reason = f"it does not let user {place.user!r} in ({_words(error)})"
    elif isinstance(error, StreamDoesNotExist):
        reason = "a stream of it is missing"
    elif isinstance(error, (ServerError, ClientError)):
        reason = f"it says: {_words(error)}"
    elif isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        reason = "the broker does not answer"
    return StoreUnavailable(store=place.name, reason=reason or _words(error), outcome=outcome)


def _nowhere(_: schema.Deliver) -> None:
    """Drop what comes between the end of a subscription and its confirmation."""


def _words(error: Exception) -> str:
    name = type(error).__name__
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


__all__ = ["ANSWER_S_MAX", "REFUSED", "Link", "Links", "closed", "unavailable"]
