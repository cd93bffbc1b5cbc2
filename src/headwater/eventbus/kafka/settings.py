"""Which brokers, and which topics on them, a URL names."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from headwater.errors import ConfigurationError

_SUBJECT = "event bus URL"
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/\s]+)(:\d{1,5})?")
_PASSED = "kafka."
_SECURITY = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_FILES = {
    "cafile": "ssl.ca.location",
    "certfile": "ssl.certificate.location",
    "keyfile": "ssl.key.location",
}
_OPTIONS = ("security", "mechanism", *_FILES, "replication", "min_insync")

OURS = frozenset({
    "acks", "request.required.acks", "allow.auto.create.topics", "auto.commit.enable",
    "auto.offset.reset", "bootstrap.servers", "delivery.report.only.error",
    "enable.auto.commit", "enable.gapless.guarantee", "enable.idempotence",
    "enable.partition.eof", "group.id", "group.instance.id", "group.protocol",
    "group.remote.assignor",
    "linger.ms", "log_level", "max.in.flight", "max.in.flight.requests.per.connection",
    "message.max.bytes", "message.send.max.retries", "message.timeout.ms", "delivery.timeout.ms",
    "metadata.broker.list", "partitioner", "queue.buffering.max.ms", "queuing.strategy", "retries",
    "sasl.mechanism", "sasl.mechanisms", "sasl.password", "sasl.username", "security.protocol",
    "topic.blacklist", "transactional.id",
})  # fmt: skip
"""What a URL cannot say about the client, as what the bus promises rests on it."""


class Place(NamedTuple):
    """The topics of a bus on a cluster.

    Attributes:
        prefix: what their names begin with.
        name: for messages, without user and password.
        client: settings of librdkafka that all clients have; may hold a password.
        replication: how many copies of a topic that is made; -1: as many as the cluster has.
        min_insync: how many of them must have an event before it is confirmed; 0: as it is.
    """

    prefix: str
    name: str
    client: Mapping[str, Any]
    replication: int
    min_insync: int

    @property
    def events(self) -> str:
        """The topic of events."""
        return f"{self.prefix}.events"

    @property
    def notes(self) -> str:
        """The topic of what is known about it: announcements, readers, growth."""
        return f"{self.prefix}.notes"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the place that a URL names.

        Raises:
            ConfigurationError: it is no URL of a bus on Kafka; without what is secret in it.
        """
        parts = urlsplit(url)
        credentials, _, servers = parts.netloc.rpartition("@")
        prefix = unquote(parts.path.removeprefix("/"))
        several = servers.split(",")
        if parts.scheme != "kafka" or not all(map(_SERVER.fullmatch, several)):
            raise _wrong("expected kafka://user:password@host:9092,host2:9092/prefix")
        if not _PREFIX.fullmatch(prefix):
            raise _wrong(
                f"the prefix of topics is {prefix!r}: use at most 200 letters, digits, '.', '_' "
                "and '-', as the path of the URL"
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        client = {
            "bootstrap.servers": ",".join(s if _port(s) else f"{s}:9092" for s in several),
            **_secured(credentials, options),
            **_passed(options),
        }
        return cls(
            prefix=prefix,
            name=f"kafka://{servers}/{prefix}",
            client=client,
            replication=_number(options, "replication", -1),
            min_insync=_number(options, "min_insync", 0),
        )


def name_of(url: str) -> str:
    """Return what a place is called in messages, without user and password."""
    return Place.parse(url).name


def _port(server: str) -> str:
    found = _SERVER.fullmatch(server)
    return (found and found[2]) or ""


def _secured(credentials: str, options: Mapping[str, str]) -> dict[str, str]:
    user, _, password = credentials.partition(":")
    security = options.get("security", "SASL_SSL" if user else "PLAINTEXT")
    if security not in _SECURITY:
        raise _wrong(f"security is {security!r}: expected one of {', '.join(_SECURITY)}")
    if security.startswith("SASL") != bool(user):
        raise _wrong(
            f"security is {security}, and {'a' if user else 'no'} user is given: "
            "name a user with security=SASL_SSL or SASL_PLAINTEXT, and none otherwise"
        )
    found = {"security.protocol": security}
    if user:
        found["sasl.mechanism"] = options.get("mechanism", "PLAIN")
        found["sasl.username"] = unquote(user)
        found["sasl.password"] = unquote(password)
    elif "mechanism" in options:
        raise _wrong("a mechanism is given, and no user")
    for option, setting in _FILES.items():
        if option in options:
            found[setting] = options[option]
    return found


def _passed(options: Mapping[str, str]) -> dict[str, str]:
    """Return what is for librdkafka alone; its names have a prefix here."""
    found: dict[str, str] = {}
    for option, value in options.items():
        setting = option.removeprefix(_PASSED)
        if option in _OPTIONS:
            continue
        if setting == option:
            raise _wrong(
                f"there is no option {option!r}, only {', '.join(_OPTIONS)}; settings of "
                f"librdkafka are given as {_PASSED}NAME=VALUE"
            )
        if setting in OURS:
            raise _wrong(f"{option} cannot be given: what the bus promises rests on it")
        found[setting] = value
    return found


def _number(options: Mapping[str, str], option: str, default: int) -> int:
    text = options.get(option, str(default))
    if option in options and not (text.isascii() and text.isdigit() and 1 <= int(text) <= 32767):
        raise _wrong(f"{option} is {text!r}: expected a number from 1")
    return int(text)


def _wrong(reason: str) -> ConfigurationError:
    return ConfigurationError(subject=_SUBJECT, reason=reason)


__all__ = ["OURS", "Place", "name_of"]
