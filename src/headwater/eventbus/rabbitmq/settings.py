"""Which broker, and which bus on it, a URL names."""

import re
import ssl
from typing import NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from headwater._http.tls import broker_context
from headwater.errors import ConfigurationError

SCHEME = "rabbitmq-stream"
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_OPTIONS = ("name", "tls", "cafile", "certfile", "keyfile", "load_balancer")
_EXPECTED = f"{SCHEME}://user:password@host:port/vhost?name=bus"
_SUBJECT = "event bus URL"


class Place(NamedTuple):
    """A bus on a broker.

    Attributes:
        host, port: where the broker listens for the stream protocol.
        user, password: who we are.
        vhost: the virtual host.
        bus: what the names of the streams begin with.
        tls: whether the connection is encrypted.
        cafile: certificates of who may have signed the broker's; empty: the system's.
        certfile, keyfile: our own certificate, for brokers that ask for one.
        load_balancer: whether the address is that of a load balancer, behind which the addresses
            that brokers advertise cannot be reached.
    """

    host: str
    port: int
    user: str
    password: str
    vhost: str
    bus: str
    tls: bool
    cafile: str
    certfile: str
    keyfile: str
    load_balancer: bool

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the place that a URL names.

        Raises:
            ConfigurationError: it is no such URL, or has an unknown or wrong option.
        """
        parts = urlsplit(url)
        if parts.scheme != SCHEME or not parts.hostname:
            raise ConfigurationError(subject=_SUBJECT, reason=f"expected {_EXPECTED}")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(options.keys() - set(_OPTIONS))
        if unknown:
            reason = f"unknown options {unknown}: there are {', '.join(_OPTIONS)}"
            raise ConfigurationError(subject=_SUBJECT, reason=reason)
        bus = options.get("name", "headwater")
        if not _PLAIN.fullmatch(bus):
            reason = (
                f"name {bus!r} is not plain: use at most 100 letters, digits, dots, _ and -, "
                "beginning with a letter, a digit or _"
            )
            raise ConfigurationError(subject=_SUBJECT, reason=reason)
        tls = _flag(options, "tls")
        try:
            port = parts.port or (5551 if tls else 5552)
        except ValueError as error:
            reason = f"the port is wrong: {error}"
            raise ConfigurationError(subject=_SUBJECT, reason=reason) from None
        return cls(
            host=parts.hostname,
            port=port,
            user=unquote(parts.username or "guest"),
            password=unquote(parts.password or "guest"),
            vhost=unquote(parts.path[1:]) or "/",
            bus=bus,
            tls=tls,
            cafile=options.get("cafile", ""),
            certfile=options.get("certfile", ""),
            keyfile=options.get("keyfile", ""),
            load_balancer=_flag(options, "load_balancer"),
        )

    @property
    def name(self) -> str:
        """What it is called in messages, without user and password."""
        vhost = "" if self.vhost == "/" else self.vhost
        return f"{SCHEME}://{self.host}:{self.port}/{vhost}?name={self.bus}"

    @property
    def notes(self) -> str:
        """The stream of what services tell each other about the bus."""
        return f"{self.bus}-notes"

    def stream(self, partition: int) -> str:
        """Return the stream of a partition."""
        return f"{self.bus}-{partition}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return how to encrypt; None: not at all.

        Raises:
            ConfigurationError: a file of certificates cannot be read.
        """
        if not self.tls:
            return None
        return broker_context(self.cafile, self.certfile, self.keyfile, subject=self.name)


def name_of(url: str) -> str:
    """Return what a bus is called in messages, without user and password."""
    return Place.parse(url).name


def _flag(options: dict[str, str], name: str) -> bool:
    value = options.get(name, "false")
    if value not in ("true", "false"):
        reason = f"{name} is {value!r}, expected true or false"
        raise ConfigurationError(subject=_SUBJECT, reason=reason)
    return value == "true"


__all__ = ["SCHEME", "Place", "name_of"]
