"""From a routing table to the files that Envoy reads. Pure: the same input gives the same bytes."""

import hashlib
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from headwater.gateway.envoy_listener import LISTENER, listener
from headwater.gateway.envoy_routes import duration, route_configuration
from headwater.gateway.model import Cluster, Endpoint, GatewaySettings, RoutingTable

_TYPE = "type.googleapis.com/envoy."
_SYSTEM_CA = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"


class Layout(msgspec.Struct, frozen=True):
    """Where the files of one gateway lie."""

    data: Path

    @property
    def bootstrap(self) -> Path:
        """The file that Envoy is started with."""
        return self.data / "bootstrap.json"

    @property
    def listeners(self) -> Path:
        """The listener discovery file (LDS)."""
        return self.data / "lds.json"

    @property
    def clusters(self) -> Path:
        """The cluster discovery file (CDS)."""
        return self.data / "cds.json"

    @property
    def routes(self) -> Path:
        """The route discovery file (RDS)."""
        return self.data / "rds.json"

    @property
    def endpoints(self) -> Path:
        """The folder of endpoint files (EDS), one for each cluster."""
        return self.data / "eds"

    def endpoint(self, cluster: str) -> Path:
        """The endpoint file of one cluster."""
        return self.endpoints / f"{cluster}.json"


class Documents(msgspec.Struct, frozen=True):
    """One whole configuration: resources by name for each kind."""

    listeners: dict[str, dict[str, Any]]
    routes: dict[str, dict[str, Any]]
    clusters: dict[str, dict[str, Any]]
    endpoints: dict[str, dict[str, Any]]


def documents(
    table: RoutingTable,
    settings: GatewaySettings,
    *,
    host: str = "",
    port: int,
    addresses: Mapping[str, str] | None = None,
) -> Documents:
    """Return Envoy's configuration for a routing table.

    Args:
        table: the routes and clusters.
        settings: of the gateway.
        host: the IP address to listen on; empty takes that of the settings.
        port: the port to listen on (that of the settings may be 0).
        addresses: the IP address of each host name; an endpoint without one is left out.
    """
    layout = Layout(settings.data.absolute())
    known = addresses or {}
    routes = route_configuration(table, settings)
    entry = listener(settings, host=host or settings.host, port=port, route_file=layout.routes)
    return Documents(
        listeners={LISTENER: entry},
        routes={routes["name"]: routes},
        clusters={c.name: _cluster(c, settings, layout) for c in table.clusters},
        endpoints={c.name: _load_assignment(c, settings, known) for c in table.clusters},
    )


def encode(resources: Mapping[str, dict[str, Any]]) -> tuple[str, bytes]:
    """Return a discovery response for a file, and its version: the digest of its content."""
    ordered = [resources[name] for name in sorted(resources)]
    body = msgspec.json.encode(ordered, order="sorted")
    version = hashlib.blake2b(body, digest_size=8).hexdigest()
    response = {"version_info": version, "resources": msgspec.Raw(body)}
    return version, msgspec.json.format(msgspec.json.encode(response), indent=1) + b"\n"


def bootstrap(settings: GatewaySettings) -> bytes:
    """Return the file that Envoy is started with: where everything else is found."""
    layout = Layout(settings.data.absolute())
    document = {
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
        "dynamic_resources": {
            "lds_config": _source(layout.listeners),
            "cds_config": _source(layout.clusters),
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
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _source(path: Path) -> dict[str, Any]:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _cluster(cluster: Cluster, settings: GatewaySettings, layout: Layout) -> dict[str, Any]:
    """Return one cluster (CDS). The registry judges health, and Envoy what it sees itself."""
    limits = {
        "max_connections": 4096,
        "max_pending_requests": 4096,
        "max_requests": 8192,
        "max_retries": 1024,  # the default of 3 would turn a dying instance into errors
    }
    found = {
        "@type": _TYPE + "config.cluster.v3.Cluster",
        "name": cluster.name,
        "type": "EDS",
        "eds_cluster_config": {
            "service_name": cluster.name,
            "eds_config": _source(layout.endpoint(cluster.name)),
        },
        "connect_timeout": duration(settings.connect_timeout_s),
        "lb_policy": "RING_HASH" if cluster.side == "command" else "LEAST_REQUEST",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "ignore_health_on_host_removal": True,
        "outlier_detection": _outlier_detection(),
        "circuit_breakers": {"thresholds": [limits]},
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "typed_extension_protocol_options": _protocol(settings),
    }
    if any(endpoint.tls for endpoint in cluster.endpoints):
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


def _load_assignment(
    cluster: Cluster, settings: GatewaySettings, addresses: Mapping[str, str]
) -> dict[str, Any]:
    """Return the endpoints of one cluster (EDS), by zone.

    Reads prefer the gateway's own zone; the others are its reserve. Commands do not: gateways of
    different zones must agree which instance a target belongs to.
    """
    by_zone: dict[str, list[Endpoint]] = {}
    for endpoint in cluster.endpoints:
        if endpoint.host in addresses:
            by_zone.setdefault(endpoint.zone, []).append(endpoint)
    near = settings.zone if cluster.side != "command" and settings.zone in by_zone else None
    localities = [
        {
            "locality": {"zone": zone},
            "priority": 0 if near is None or zone == near else 1,
            "lb_endpoints": [_endpoint(e, addresses[e.host]) for e in by_zone[zone]],
        }
        for zone in sorted(by_zone)
    ]
    return {
        "@type": _TYPE + "config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster.name,
        "endpoints": localities,
    }


def _endpoint(endpoint: Endpoint, address: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "endpoint": {
            "address": {"socket_address": {"address": address, "port_value": endpoint.port}},
            "hostname": endpoint.host,
        },
        "health_status": "HEALTHY",
        "load_balancing_weight": endpoint.weight,
    }
    if endpoint.tls:
        match = {"envoy.transport_socket_match": {"tls": True}}
        found["metadata"] = {"filter_metadata": match}
    return found
