"""What the gateway is told (settings), what it derives (a routing table), what it reports."""

from pathlib import Path
from typing import Literal

import msgspec

from headwater.errors import ConfigurationError

Side = Literal["command", "query", "any"]
Kind = Literal["command", "query", "stream", "http"]


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one gateway; every time is in seconds.

    Attributes:
        host, port: where clients connect; port 0 lets the system choose one.
        admin_port: Envoy's own admin port, always on 127.0.0.1; 0 lets Envoy choose one.
        envoy: path of the Envoy program; empty takes the one of ``headwater[gateway]``.
        data: directory for the configuration files and logs; one gateway per directory.
        access_log: ``file`` (``access.log`` in `data`), ``stdout``, ``off``, or a path.
        log_level: level of Envoy's own log, ``envoy.log`` in `data`.
        read_timeout_s: for GET and HEAD, retries included; `read_try_timeout_s` for each try.
        write_timeout_s: for every other method, retries included.
        connect_timeout_s: to reach one instance.
        upstream_idle_s: an unused connection to an instance is closed after this long. Keep it
            below the keep-alive time of the services, or a write may meet a closing connection.
        start_timeout_s: for Envoy to take traffic after its start.
        confirm_timeout_s: for Envoy to accept a changed configuration.
        drain_timeout_s: how long `Gateway.stop` waits for requests in progress.
        retries: how often a request is tried again where that is safe.
        body_limit_bytes: larger request bodies are refused with 413, except on stream routes.
        max_connections: further connections of clients are closed at once.
        zone: where the gateway runs; reads prefer instances of the same zone.
        concurrency: Envoy's worker threads; 0 takes one per CPU it may use.
        service_prefix: also offer ``/services/<service>/...`` with that prefix removed.
        trusted_hops: how many proxies in front of the gateway may add to ``x-forwarded-for``.
        remember_s: the routes of a service without any instance answer 503 for this long, then
            404.
        ca_file: certificates that sign those of ``https`` instances; empty takes the system's.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    admin_port: int = 0
    envoy: str = ""
    data: Path = Path(".headwater/gateway")
    access_log: str = "file"
    log_level: Literal["trace", "debug", "info", "warning", "error", "critical", "off"] = "warning"
    read_timeout_s: float = 30.0
    read_try_timeout_s: float = 10.0
    write_timeout_s: float = 30.0
    connect_timeout_s: float = 1.0
    upstream_idle_s: float = 4.0
    start_timeout_s: float = 15.0
    confirm_timeout_s: float = 5.0
    drain_timeout_s: float = 10.0
    retries: int = 3
    body_limit_bytes: int = 1024 * 1024
    max_connections: int = 10_000
    zone: str = ""
    concurrency: int = 0
    service_prefix: bool = False
    trusted_hops: int = 0
    remember_s: float = 900.0
    ca_file: str = ""

    def __post_init__(self) -> None:
        """Refuse values that no gateway can run with.

        Raises:
            ConfigurationError: a number is out of its range.
        """
        ranges = {"port": (0, 65535), "admin_port": (0, 65535), "body_limit_bytes": (1, 2**32 - 1)}
        ranges |= {
            "max_connections": (1, 1_000_000),
            "retries": (0, 10),
            "concurrency": (0, 1024),
            "trusted_hops": (0, 32),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigurationError(
                    subject=f"gateway.{name}",
                    reason=f"is {value}, expected {low} to {high}: correct the setting",
                )
        for name in self.__struct_fields__:
            if name.endswith("_s") and getattr(self, name) <= 0:
                raise ConfigurationError(
                    subject=f"gateway.{name}",
                    reason=f"is {getattr(self, name)}, expected more than 0 seconds",
                )


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """One live instance as a target of traffic. ``host`` may be a name; Envoy gets an address."""

    host: str
    port: int
    zone: str = ""
    weight: int = 1
    tls: bool = False
    instance: str = ""


class Cluster(msgspec.Struct, frozen=True):
    """The instances that share one kind of requests of a service."""

    name: str
    service: str
    side: Side
    endpoints: tuple[Endpoint, ...]


class Route(msgspec.Struct, frozen=True):
    """One method and path template, and where its requests go."""

    method: str
    path: str
    kind: Kind
    service: str
    cluster: str
    key: str = ""


class RouteProblem(msgspec.Struct, frozen=True):
    """A declared route that is not served as declared, and why."""

    method: str
    path: str
    service: str
    reason: str


class InstanceProblem(msgspec.Struct, frozen=True):
    """An instance that receives no traffic though it is registered as ``UP``, and why."""

    service: str
    instance: str
    reason: str


class RoutingTable(msgspec.Struct, frozen=True):
    """What the gateway serves: routes in matching order, clusters by name.

    ``owners`` names the service that serves each method and path shape, so that the next table
    keeps it. ``prefixes`` gives for each service the clusters of its reads and its writes.
    While ``settling``, a path without a route may get one any moment.
    """

    routes: tuple[Route, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    problems: tuple[RouteProblem, ...] = ()
    faulty: tuple[InstanceProblem, ...] = ()
    owners: dict[str, str] = {}
    prefixes: dict[str, tuple[str, str]] = {}
    settling: bool = False


class GatewayStatus(msgspec.Struct, frozen=True):
    """What a gateway is doing.

    Attributes:
        state: ``stopped``, ``starting``, ``serving``, ``restarting`` (Envoy died) or ``draining``.
        port, admin_port, pid: of the running Envoy, else 0.
        restarts: how often Envoy died and was started again.
        updates: how many changed configurations Envoy has accepted.
        instances: the number of instances that receive traffic, by service.
        routes: how many routes are served.
        problems: declared routes that are not served as declared.
        faulty: instances that receive no traffic though they are registered as ``UP``.
        rejected: why the last change was not taken over; empty when it was.
        settling: whether services may be there that are not known yet.
        unheard_s: for how long the registry has been away; 0 while it is there.
    """

    state: Literal["stopped", "starting", "serving", "restarting", "draining"]
    port: int = 0
    admin_port: int = 0
    pid: int = 0
    restarts: int = 0
    updates: int = 0
    instances: dict[str, int] = {}
    routes: int = 0
    problems: tuple[RouteProblem, ...] = ()
    faulty: tuple[InstanceProblem, ...] = ()
    rejected: str = ""
    settling: bool = False
    unheard_s: float = 0.0
