"""Which broker a URL names, and connections to it. Credentials are in no message."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import aio_pika
from aio_pika.abc import AbstractConnection, TimeoutType
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from headwater._http.tls import broker_context
from headwater.errors import ConfigurationError, StoreUnavailable

ANSWER_S_MAX = 30.0
"""How long the broker is waited for at most, each time."""

_PORTS = {"amqp": 5672, "amqps": 5671}
_OPTIONS = ("cafile", "certfile", "keyfile", "heartbeat")
_EXPECTED = "amqp://user:password@host:5672/vhost, or amqps:// with TLS"
_SUBJECT = "setting amqp"
_HEARTBEAT_S = 15  # a broker that is silent for about twice as long counts as lost
_HEARTBEAT_S_MAX = 3600
_GOODBYE_S_MAX = 2.0

# All that it could tell is told by our errors, and what it says may quote messages and addresses.
for _logger in ("aio_pika", "aiormq"):
    logging.getLogger(_logger).setLevel(logging.CRITICAL)  # noqa: TID251  # not a logger of ours


class Broker(NamedTuple):
    """A broker, and who we are there.

    Attributes:
        host, port: where it listens.
        user, password: who we are.
        vhost: the virtual host.
        tls: whether the connection is encrypted.
        cafile: certificates of who may have signed the broker's; empty: the system's.
        certfile, keyfile: our own certificate, for brokers that ask for one.
        heartbeat_s: how often both sides say that they are there.
    """

    host: str
    port: int
    user: str
    password: str
    vhost: str
    tls: bool
    cafile: str
    certfile: str
    keyfile: str
    heartbeat_s: int

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the broker that a URL names.

        Raises:
            ConfigurationError: it is no such URL, or has an unknown or wrong option. No part of
                the URL that may hold a password is in the message.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:  # whose message would quote the URL
            raise _wrong(f"is no URL: expected {_EXPECTED}") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise _wrong(f"expected {_EXPECTED}")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(options.keys() - set(_OPTIONS))
        if unknown:
            raise _wrong(f"unknown options {unknown}: there are {', '.join(_OPTIONS)}")
        heartbeat = options.get("heartbeat", str(_HEARTBEAT_S))
        if not heartbeat.isdecimal() or not 1 <= int(heartbeat) <= _HEARTBEAT_S_MAX:
            raise _wrong(f"heartbeat must be 1 to {_HEARTBEAT_S_MAX} seconds, got {heartbeat!r}")
        return cls(
            host=parts.hostname,
            port=port,
            user=unquote(parts.username or "guest"),
            password=unquote(parts.password or "guest"),
            vhost=unquote(parts.path[1:]) or "/",
            tls=parts.scheme == "amqps",
            cafile=options.get("cafile", ""),
            certfile=options.get("certfile", ""),
            keyfile=options.get("keyfile", ""),
            heartbeat_s=int(heartbeat),
        )

    @property
    def name(self) -> str:
        """What it is called in messages, without user and password."""
        vhost = "" if self.vhost == "/" else self.vhost
        return f"amqp{'s' if self.tls else ''}://{self.host}:{self.port}/{vhost}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return how to encrypt; None: not at all.

        Raises:
            ConfigurationError: a file of certificates cannot be read.
        """
        if not self.tls:
            return None
        return broker_context(self.cafile, self.certfile, self.keyfile, subject=self.name)

    def unavailable(self, error: BaseException | str) -> StoreUnavailable:
        """Return the error for what the client, or the broker, says; without the password."""
        text = error if isinstance(error, str) else f"{type(error).__name__} {error}".strip()
        if len(self.password) > 1:
            text = text.replace(self.password, "***")
        return StoreUnavailable(store=self.name, reason=text)

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """Let what the client raises in the block be ours.

        Raises:
            StoreUnavailable: the broker is away, or refuses.
        """
        try:
            yield
        except CONNECTION_EXCEPTIONS as error:
            raise self.unavailable(error) from None  # its traceback shows the URL
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise self.unavailable(error) from None  # of what the client waited for

    async def connect(self, called: str) -> AbstractConnection:
        """Return a connection, which lasts until its first failure.

        Raises:
            StoreUnavailable: the broker is away, or refuses.
            ConfigurationError: a file of certificates cannot be read.
        """
        context = self.ssl_context()
        with self.faults():
            return await aio_pika.connect(
                host=self.host,
                port=self.port,
                login=self.user,
                password=self.password,
                virtualhost=self.vhost,
                ssl=self.tls,
                ssl_context=context,
                timeout=ANSWER_S_MAX,
                connection_class=_Connection,
                client_properties={"connection_name": called},
                heartbeat=self.heartbeat_s,
            )

    @contextlib.asynccontextmanager
    async def connected(self, called: str) -> AsyncIterator[AbstractConnection]:
        """Connect for the block; raises as `connect`."""
        connection = await self.connect(called)
        try:
            yield connection
        finally:
            await close(connection)


class _Connection(aio_pika.Connection):
    """A connection that is closed when it cannot be opened: else the client does it, some time."""

    async def connect(self, timeout: TimeoutType = None) -> None:  # noqa: ASYNC109  # the client's
        """Open it."""
        try:
            await super().connect(timeout)
        except BaseException:
            await close(self)
            raise


async def close(connection: AbstractConnection) -> None:
    """Close a connection, whatever state it is in, within a bounded time."""
    with contextlib.suppress(*CONNECTION_EXCEPTIONS, asyncio.CancelledError):
        async with asyncio.timeout(_GOODBYE_S_MAX):
            await connection.close()


def _wrong(reason: str) -> ConfigurationError:
    return ConfigurationError(subject=_SUBJECT, reason=reason)


def broker_of(url: str, *, wanted_by: str) -> Broker:
    """Return the broker that the setting names; raises as `Broker.parse`, and if it is empty."""
    if not url:
        raise ConfigurationError(
            subject=wanted_by,
            reason=f"needs a broker, and none is set: set amqp, such as {_EXPECTED}",
        )
    return Broker.parse(url)


__all__ = ["ANSWER_S_MAX", "Broker", "broker_of", "close"]
