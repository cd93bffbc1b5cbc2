"""The listener: it depends on settings only, and is the same as long as the gateway runs.

Changing a listener closes its connections; changing routes, clusters or endpoints does not.
"""

from pathlib import Path
from typing import Any

from headwater.gateway.envoy_routes import BUFFER, READY, duration
from headwater.gateway.model import GatewaySettings
from headwater.gateway.problems import local_replies

LISTENER = "headwater"
STAT_PREFIX = "ingress"
_TYPE = "type.googleapis.com/envoy.extensions."
_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {
        "@type": _TYPE + "filters.http.router.v3.Router",
        "suppress_envoy_headers": True,
    },
}
_LOG_FORMAT = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "traceparent": "%REQ(TRACEPARENT)%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "duration_ms": "%DURATION%",
    "request_bytes": "%BYTES_RECEIVED%",
    "response_bytes": "%BYTES_SENT%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "upstream": "%UPSTREAM_HOST%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "user_agent": "%REQ(USER-AGENT)%",
}


def listener(
    settings: GatewaySettings, *, host: str, port: int, routes: dict[str, Any]
) -> dict[str, Any]:
    """Return the one listener, on an address that is known by now.

    ``routes`` says where its routes come from: ``rds``, or ``route_config``.
    """
    manager = _connection_manager(settings) | routes
    return {
        "name": LISTENER,
        "address": {"socket_address": {"address": host, "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "http", "typed_config": manager}]},
        ],
        "per_connection_buffer_limit_bytes": 1024 * 1024,
    }


def _connection_manager(settings: GatewaySettings) -> dict[str, Any]:
    return {
        "@type": _TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": STAT_PREFIX,
        "server_name": "headwater",
        "http_filters": [_readiness(), _buffer(settings), _ROUTER],
        # A WebSocket has no end of its request, so the size limit's buffer would hold it back.
        "upgrade_configs": [{"upgrade_type": "websocket", "enabled": False, "filters": [_ROUTER]}],
        "local_reply_config": local_replies(),
        "access_log": _access_log(settings),
        "use_remote_address": True,
        "xff_num_trusted_hops": settings.trusted_hops,
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {
                "@type": _TYPE + "request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,  # leave a caller's id as it is
                "use_request_id_for_trace_sampling": False,
            }
        },
        "normalize_path": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",  # %2F may be part of an id
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {"idle_timeout": "300s"},
        "drain_timeout": duration(min(settings.drain_timeout_s, 5.0)),
    }


def _readiness() -> dict[str, Any]:
    """Answer ``/health/ready`` with 503 as soon as the gateway drains; before, it says itself."""
    return {
        "name": "envoy.filters.http.health_check",
        "typed_config": {
            "@type": _TYPE + "filters.http.health_check.v3.HealthCheck",
            "pass_through_mode": True,
            "headers": [{"name": ":path", "string_match": {"exact": READY}}],
        },
    }


def _buffer(settings: GatewaySettings) -> dict[str, Any]:
    """Refuse large bodies before a service sees a byte; stream routes switch this off.

    Buffering also lets a body without a declared length be measured and sent again on a retry.
    """
    return {
        "name": BUFFER,
        "typed_config": {
            "@type": _TYPE + "filters.http.buffer.v3.Buffer",
            "max_request_bytes": settings.body_limit_bytes,
        },
    }


def _access_log(settings: GatewaySettings) -> list[dict[str, Any]]:
    if settings.access_log == "off":
        return []
    log_format = {"json_format": _LOG_FORMAT}
    if settings.access_log == "stdout":
        return [
            {
                "name": "envoy.access_loggers.stdout",
                "typed_config": {
                    "@type": _TYPE + "access_loggers.stream.v3.StdoutAccessLog",
                    "log_format": log_format,
                },
            }
        ]
    path = settings.data / "access.log"
    if settings.access_log != "file":
        path = Path(settings.access_log)
    return [
        {
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": _TYPE + "access_loggers.file.v3.FileAccessLog",
                "path": str(path.absolute()),
                "log_format": log_format,
            },
        }
    ]
