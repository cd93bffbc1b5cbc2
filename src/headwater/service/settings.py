"""What one instance of a service must be told: where it listens and which engines carry it."""

import re
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import msgspec

from headwater._sql.postgres.url import SCHEMES, schema_for
from headwater.errors import ConfigurationError
from headwater.messages import new_id
from headwater.modelling import Retry

Role = Literal["command", "query", "all"]
# A URL with several hosts has commas, too; after them come a name and a port.
_BETWEEN_URLS = re.compile(
    r"\s*,\s*(?=(?:sqlite|memory|postgres|postgresql):|[a-z][a-z0-9+.-]*:(?!\d))"
)


def split_urls(text: str) -> list[str]:
    """Return the URLs in a text, which are separated by commas; a URL may have commas, too."""
    return _BETWEEN_URLS.split(text.strip())


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of an instance. In URLs ``{data}`` and ``{service}`` are replaced.

    Attributes:
        service: the service's name.
        instance: unique over the system; made up when empty.
        role: which side to run.
        zone, version: told to discovery.
        host, port: where to listen; port 0 chooses a free one.
        advertise: the host name told to others; empty for ``host``, or, where that is every
            address of the machine, for the address from which it reaches the registry.
        data: directory for files of embedded engines.
        store, views, bus: engines, as URLs: ``sqlite:<path>``, ``postgresql://...`` or
            ``memory:``; an empty bus means that the service neither publishes nor subscribes.
            Several URLs of ``store``, as a list or separated by commas, are the shards of one.
        amqp: the RabbitMQ of the service's `AmqpPublisher` and `AmqpQueue`, as ``amqp://`` or
            ``amqps://`` URL.
        partitions: partitions of a bus that is yet to be made.
        discovery, config: base URLs of those services; empty to run without.
        profiles, label: which configuration to fetch.
        max_in_progress: requests handled at once; more are answered 503.
        max_body_bytes: larger bodies are answered 413.
        request_timeout_s: the longest a request may take; callers can ask for less.
        consistency_timeout_s: how long a query waits for its token.
        drain_s: how long a stop waits for requests in progress.
        lease_s: how long the registry keeps a silent instance.
        views_unused_s: how long views that a program of another version has made are kept when no
            instance of it runs any more.
        cache_size: aggregates kept in memory per class.
        keys_kept_s: how long idempotency keys are known, and a little longer than sagas send a
            command again; 0: for ever.
        bus_kept_s: how long the bus keeps events that all have read; 0: for ever.
        bus_bytes_max: the oldest of those go while there are more bytes; 0: any number.
        bus_silent_s: who reads the bus, and was silent for this long, is not waited for; 0: always.
        segments: into how many shares the work of a processor that is yet to be made is divided;
            0: as its class says.
        retry_attempts: how often an event that fails is tried before its sequence is parked,
            unless its handlers say otherwise.
        retry_pause_s, retry_pause_max_s: the pause after the first failure, which doubles up to
            the largest.
        tls_certificate, tls_key: PEM files with what the instance shows to those who connect, by
            https then; empty: it is reached by http. The key may be in the same file.
        tls_ca: a PEM file with the authorities that vouch for others; empty: the system's.
        log_level, log_format: ``console`` or ``json`` lines on standard error.
    """

    service: str
    instance: str = ""
    role: Role = "all"
    zone: str = ""
    version: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    advertise: str = ""
    data: str = ".headwater"
    store: str | tuple[str, ...] = "sqlite:{data}/{service}/events.db"
    views: str = "sqlite:{data}/{service}/views.db"
    bus: str = ""
    amqp: str = ""
    partitions: int = 4
    discovery: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    profiles: str = "default"
    label: str = ""
    max_in_progress: int = 1024
    max_body_bytes: int = 1_000_000
    request_timeout_s: float = 10.0
    consistency_timeout_s: float = 5.0
    start_timeout_s: float = 15.0
    drain_s: float = 10.0
    lease_s: float = 5.0
    views_unused_s: float = 300.0
    cache_size: int = 10_000
    keys_kept_s: float = 604_800.0
    bus_kept_s: float = 2_592_000.0
    bus_bytes_max: int = 0
    bus_silent_s: float = 0.0
    segments: int = 0
    retry_attempts: int = 10
    retry_pause_s: float = 0.25
    retry_pause_max_s: float = 15.0
    tls_certificate: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"

    @property
    def commands(self) -> bool:
        """Whether this instance handles commands."""
        return self.role in ("command", "all")

    @property
    def queries(self) -> bool:
        """Whether this instance answers queries."""
        return self.role in ("query", "all")

    @property
    def stores(self) -> tuple[str, ...]:
        """The URLs of the event store's shards, in order; one URL when it is not sharded."""
        texts = (self.store,) if isinstance(self.store, str) else self.store
        return tuple([self._complete(url, "store") for text in texts for url in split_urls(text)])

    @property
    def retry(self) -> Retry:
        """How often an event that fails is tried."""
        return Retry(
            attempts=self.retry_attempts,
            pause_s=self.retry_pause_s,
            pause_max_s=self.retry_pause_max_s,
        )

    def url(self, engine: Literal["views", "bus"]) -> str:
        """Return the URL of ``views`` or ``bus`` with its placeholders replaced.

        In PostgreSQL a service has a schema of its own, which is named after it, and the bus has
        one for all services, unless the URL says ``?schema=<name>``.
        """
        return self._complete(getattr(self, engine), engine)

    def _complete(self, text: str, engine: str) -> str:
        url = text.replace("{data}", self.data).replace("{service}", self.service)
        scheme, _, rest = url.partition("://")
        if scheme not in SCHEMES or "schema" in dict(parse_qsl(urlsplit(url).query)):
            return url
        schema = "headwater_bus" if engine == "bus" else schema_for(self.service)
        return f"{url}{'&' if '?' in rest else '?'}schema={schema}"


def service_settings(values: dict[str, Any], *, origin: str) -> ServiceSettings:
    """Return settings from plain values.

    Raises:
        ConfigurationError: a name is unknown or a value has the wrong type; says which.
    """
    try:
        settings = msgspec.convert(values, ServiceSettings, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(ServiceSettings.__struct_fields__)
        raise ConfigurationError(
            subject=f"settings from {origin}", reason=f"{error}; known settings are {known}"
        ) from error
    if not settings.retry.possible:
        raise ConfigurationError(
            subject=f"settings from {origin}",
            reason="retry_attempts must be 1 or more, and retry_pause_s from 0 to "
            f"retry_pause_max_s; got {settings.retry_attempts}, {settings.retry_pause_s} and "
            f"{settings.retry_pause_max_s}",
        )
    if not settings.instance:
        name = f"{settings.service}-{settings.role}-{new_id()[-12:]}"
        settings = msgspec.structs.replace(settings, instance=name)
    return settings
