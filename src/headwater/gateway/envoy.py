"""From a routing table to what Envoy is told. Pure: the same input gives the same documents."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from headwater.gateway.envoy_listener import listener
from headwater.gateway.envoy_routes import CONTROL, ROUTES, STATUS, duration
from headwater.gateway.last_seen import STATE
from headwater.gateway.model import Cluster, Endpoint, GatewaySettings

_TYPE = "type.googleapis.com/envoy."
_SYSTEM_CA = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
_ADS: dict[str, Any] = {"resource_api_version": "V3", "ads": {}}
EDS: dict[str, Any] = {"type": "EDS", "eds_cluster_config": {"eds_config": _ADS}}
"""What a cluster has besides whose endpoints are told on the stream."""
_WEIGHTS_MAX = 2**32 - 1
_REGEX_PROGRAM_SIZE = 1_000_000
"""Far above what a path of any permitted length needs: it is memory, and no longer a limit."""


class Layout(msgspec.Struct, frozen=True):
    """Where the files of one gateway lie."""

    data: Path

    @property
    def bootstrap(self) -> Path:
        """The file that Envoy is started with: it asks the gateway for all else."""
        return self.data / "bootstrap.json"

    @property
    def standalone(self) -> Path:
        """With it an Envoy starts and serves by itself, by `routes` and `clusters`."""
        return self.data / "standalone.json"

    @property
    def routes(self) -> Path:
        """The last routes, as Envoy reads them."""
        return self.data / "routes.pb"

    @property
    def clusters(self) -> Path:
        """The last clusters and their endpoints, as Envoy reads them."""
        return self.data / "clusters.pb"

    @property
    def state(self) -> Path:
        """What the gateway remembers of services and routes."""
        return self.data / STATE


def bootstrap(settings: GatewaySettings, *, host: str, port: int, sockets: Path) -> bytes:
    """Return the file that Envoy is started with.

    Args:
        settings: of the gateway.
        host: the IP address to listen on.
        port: the port to listen on (that of the settings may be 0).
        sockets: where the gateway's own Unix sockets lie: on ``control`` it tells routes, clusters
            and endpoints, on ``status`` how it is.
    """
    document = _base(settings, host, port, _ADS)
    document["static_resources"]["clusters"] = [
        _own(CONTROL, sockets / "control", "http2_protocol_options"),
        _own(STATUS, sockets / "status", "http_protocol_options"),
    ]
    service = {"envoy_grpc": {"cluster_name": CONTROL}}
    document["dynamic_resources"] = {
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "grpc_services": [service],
        },
        "cds_config": _ADS,
    }
    return _pretty(document)


def standalone(settings: GatewaySettings, *, host: str, port: int) -> bytes:
    """Return the file that an Envoy is started with which has no gateway.

    It finds the last routes, and clusters with their endpoints, in two files beside it.
    """
    layout = Layout(settings.data.absolute())
    document = _base(settings, host, port, _file(layout.routes))
    document["dynamic_resources"] = {"cds_config": _file(layout.clusters)}
    return _pretty(document)


def _file(path: Path) -> dict[str, Any]:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _pretty(document: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _base(
    settings: GatewaySettings, host: str, port: int, source: dict[str, Any]
) -> dict[str, Any]:
    """Return what does not change as long as the gateway runs; routes come from a source."""
    routes = {"rds": {"route_config_name": ROUTES, "config_source": source}}
    return {
        "node": {
            "id": "headwater-gateway",
            "cluster": "headwater-gateway",
            "locality": {"zone": settings.zone},
        },
        "admin": {
            "address": {
                "socket_address": {"address": "127.0.0.1", "port_value": settings.admin_port}
            }
        },
        "static_resources": {
            "listeners": [listener(settings, host=host, port=port, routes=routes)]
        },
        # A cluster has its hundred figures once it is used: most of a large system is idle.
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "layered_runtime": {
            "layers": [
                {
                    "name": "headwater",
                    "static_layer": {
                        "re2.max_program_size.error_level": _REGEX_PROGRAM_SIZE,
                        "re2.max_program_size.warn_level": _REGEX_PROGRAM_SIZE,
                    },
                }
            ]
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": _TYPE + "extensions.resource_monitors.downstream_connections."
                        "v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": settings.max_connections,
                    },
                }
            ]
        },
    }


def _own(cluster_name: str, socket: Path, protocol: str) -> dict[str, Any]:
    """Return a cluster that is the gateway itself."""
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return {
        "name": cluster_name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": cluster_name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
        "typed_extension_protocol_options": {
            name: {
                "@type": f"type.googleapis.com/{name}",
                "explicit_http_config": {protocol: {}},
            }
        },
    }


def cluster(entry: Cluster, settings: GatewaySettings) -> dict[str, Any]:
    """Return one cluster (CDS), without where its endpoints come from: `EDS`, or beside it.

    The registry judges health, and Envoy what it sees itself.
    """
    limits = {
        "max_connections": 4096,
        "max_pending_requests": 4096,
        "max_requests": 8192,
        "max_retries": 1024,  # the default of 3 would turn a dying instance into errors
    }
    found: dict[str, Any] = {
        "name": entry.name,
        "connect_timeout": duration(settings.connect_timeout_s),
        "lb_policy": "RING_HASH" if entry.side == "command" else "LEAST_REQUEST",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "ignore_health_on_host_removal": True,
        "outlier_detection": _outlier_detection(),
        "circuit_breakers": {"thresholds": [limits]},
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "typed_extension_protocol_options": _protocol(settings),
    }
    if any(endpoint.tls for endpoint in entry.endpoints):
        found["transport_socket_matches"] = _transports(settings)
    return found


def _outlier_detection() -> dict[str, Any]:
    """Eject an instance that cannot be reached or breaks connections, not one that answers 5xx.

    An instance that answers "overloaded" or "not caught up" is alive; ejecting it would move its
    load to the others until all are out.
    """
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 3,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": "2s",
        "max_ejection_time": "30s",
        "max_ejection_percent": 50,
    }


def _protocol(settings: GatewaySettings) -> dict[str, Any]:
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        name: {
            "@type": f"type.googleapis.com/{name}",
            "explicit_http_config": {"http_protocol_options": {}},
            "common_http_protocol_options": {"idle_timeout": duration(settings.upstream_idle_s)},
        }
    }


def _transports(settings: GatewaySettings) -> list[dict[str, Any]]:
    """TLS, with the instance's certificate checked, for instances of scheme ``https``."""
    trusted = {"trusted_ca": {"filename": str(Path(settings.ca_file or _SYSTEM_CA).absolute())}}
    return [
        {
            "name": "tls",
            "match": {"tls": True},
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": _TYPE + "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "auto_host_sni": True,
                    "auto_sni_san_validation": True,
                    "common_tls_context": {"validation_context": trusted},
                },
            },
        },
        {
            "name": "plain",
            "match": {},
            "transport_socket": {
                "name": "envoy.transport_sockets.raw_buffer",
                "typed_config": {
                    "@type": _TYPE + "extensions.transport_sockets.raw_buffer.v3.RawBuffer"
                },
            },
        },
    ]


def load_assignment(
    entry: Cluster, settings: GatewaySettings, addresses: Mapping[str, str]
) -> dict[str, Any]:
    """Return the endpoints of one cluster (EDS), by zone.

    Reads prefer the gateway's own zone; the others are its reserve. Commands do not: gateways of
    different zones must agree which instance a target belongs to.
    """
    by_zone: dict[str, list[Endpoint]] = {}
    for endpoint in entry.endpoints:
        if endpoint.host in addresses:
            by_zone.setdefault(endpoint.zone, []).append(endpoint)
    # Envoy adds them up in 32 bits.
    weight_max = _WEIGHTS_MAX // max(1, len(entry.endpoints))
    near = settings.zone if entry.side != "command" and settings.zone in by_zone else None
    localities = [
        {
            "locality": {"zone": zone},
            "priority": 0 if near is None or zone == near else 1,
            "lb_endpoints": [_endpoint(e, addresses[e.host], weight_max) for e in by_zone[zone]],
        }
        for zone in sorted(by_zone)
    ]
    return {
        "cluster_name": entry.name,
        "endpoints": localities,
    }


def _endpoint(endpoint: Endpoint, address: str, weight_max: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "endpoint": {
            "address": {"socket_address": {"address": address, "port_value": endpoint.port}},
            "hostname": endpoint.host,
        },
        "health_status": "HEALTHY",
        "load_balancing_weight": min(endpoint.weight, weight_max),
    }
    if endpoint.tls:
        match = {"envoy.transport_socket_match": {"tls": True}}
        found["metadata"] = {"filter_metadata": match}
    return found
