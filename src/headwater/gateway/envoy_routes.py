"""From a routing table to Envoy's route configuration (RDS)."""

import functools
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from headwater.gateway import templates
from headwater.gateway.model import GatewaySettings, Route, RoutingTable
from headwater.gateway.overlaps import allowed
from headwater.gateway.routes import READS
from headwater.messages.headers import IDEMPOTENCY_KEY, SERVICE, TIMEOUT_MS

ROUTES = "headwater"  # the name of the one route configuration
CONTROL = "headwater-gateway"  # the cluster that is the gateway itself
STATUS = "headwater-status"  # where the gateway says how it is
UNKNOWN = "headwater-unknown"  # never there: what is not known yet is unavailable
READY = "/health/ready"
BUFFER = "envoy.filters.http.buffer"
_BUFFER_OFF = {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
    "disabled": True,
}
_READS = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
Section = tuple[Hashable, Callable[[], list[dict[str, Any]]]]
KEYED = {
    "name": IDEMPOTENCY_KEY,
    # A blank one is no key; Envoy joins several by commas.
    "string_match": {"safe_regex": {"regex": r".*[^\s,].*"}},
    "treat_missing_header_as_empty": True,
}
"""Matches a request that carries an idempotency key."""

_PREVIOUS_HOSTS = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": {
        "@type": "type.googleapis.com/"
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    },
}
_PREVIOUS_PRIORITIES = {
    "name": "envoy.retry_priorities.previous_priorities",
    "typed_config": {
        "@type": "type.googleapis.com/"
        "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
        "update_frequency": 1,
    },
}


def route_configuration(table: RoutingTable, settings: GatewaySettings) -> dict[str, Any]:
    """Return the route configuration: first match wins, so the most specific comes first.

    Of the templates that match, the most specific one that has the method decides; if none has it,
    the answer names the methods of all.
    """
    routes = [entry for _, make in sections(table, settings) for entry in make()]
    return {"name": ROUTES, "virtual_hosts": [virtual_host(settings) | {"routes": routes}]}


def virtual_host(settings: GatewaySettings) -> dict[str, Any]:
    """Return the one virtual host, without its routes."""
    return {
        "name": "all",
        "domains": ["*"],
        # A body that may be sent again is kept until the answer.
        "request_body_buffer_limit": settings.body_limit_bytes,
    }


def sections(table: RoutingTable, settings: GatewaySettings) -> Iterator[Section]:
    """Yield the routes in their order: what each section is made from, and what makes it.

    Equal keys make equal routes, so that most of them need not be made again after a change.
    """
    yield "own", lambda: [_health("/health/live", "UP"), _readiness()]
    for route in table.routes:
        yield route, functools.partial(_routes, route, settings)
    for service, sides in sorted(table.prefixes.items()):
        yield (service, sides), functools.partial(_prefix_routes, service, *sides, settings)
    for path, methods in allowed(table.routes):
        yield (path, methods), functools.partial(_other_methods, path, ", ".join(methods))
    if table.settling:
        yield "settling", lambda: [{"match": {"prefix": "/"}, "route": {"cluster": UNKNOWN}}]


def _health(path: str, status: str) -> dict[str, Any]:
    return {
        "match": {"path": path},
        "direct_response": {
            "status": 200,
            "body": {"inline_string": f'{{"status":"{status}"}}'},
        },
        "response_headers_to_add": [
            {
                "header": {"key": "content-type", "value": "application/json"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }


def _readiness() -> dict[str, Any]:
    """``/health/ready`` is answered by the gateway itself, within a second or by Envoy for it."""
    return {"match": {"path": READY}, "route": {"cluster": STATUS, "timeout": "1s"}}


def _other_methods(path: str, allow: str) -> list[dict[str, Any]]:
    """Answer what no template of a path has; OPTIONS becomes 204 on its way (see `problems`)."""
    header = {"header": {"key": "allow", "value": allow}}
    return [
        {
            "match": _path(path),
            "direct_response": {"status": 405},
            "response_headers_to_add": [header | {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
            "metadata": {"filter_metadata": {"headwater": {"allow": allow}}},
        }
    ]


def _path(path: str) -> dict[str, Any]:
    if templates.parameters(path):
        return {"safe_regex": {"regex": templates.pattern(path)}}
    return {"path": templates.shape(path)}


def _routes(route: Route, settings: GatewaySettings) -> list[dict[str, Any]]:
    """Return the Envoy routes of one of ours."""
    path = _path(route.path)
    several = {"*": ("GET", "")}  # an empty name: every other method
    found: list[dict[str, Any]] = []
    for method in several.get(route.method, (route.method,)):
        headers = [_READS if method == "GET" else _header(":method", method)] if method else []
        target = {"cluster": route.cluster} | _hash_policy(route)
        if route.kind == "stream":
            found.append(_stream(route.service, _with(path, headers), target))
        elif route.kind == "query" or (method in READS and route.kind != "command"):
            found.append(_read(route.service, _with(path, headers), target, settings))
        else:
            found += _writes(route.service, path, headers, target, settings)
    return found


def _prefix_routes(
    service: str, reads: str, writes: str, settings: GatewaySettings
) -> list[dict[str, Any]]:
    """Return the routes of ``/services/<service>/``; the request's headers tell a stream."""
    match = {"prefix": f"/services/{templates.shape(service)}/"}
    strip = {"prefix_rewrite": "/"}
    websocket: dict[str, Any] = {
        "name": "upgrade",
        "string_match": {"exact": "websocket", "ignore_case": True},
    }
    events = {"name": "accept", "string_match": {"contains": "text/event-stream"}}
    streams = [
        _stream(service, match | {"headers": [header]}, strip | {"cluster": reads})
        for header in (websocket, events)
    ]
    plain = _read(service, match | {"headers": [_READS]}, strip | {"cluster": reads}, settings)
    return [*streams, plain, *_writes(service, match, [], strip | {"cluster": writes}, settings)]


def _stream(service: str, match: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    """A stream has no time limit, no size limit, and is tried again only before it began."""
    action = target | {
        "timeout": "0s",
        "idle_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "websocket", "enabled": True}],
        "retry_policy": _retry("connect-failure,refused-stream", 2),
    }
    return {
        "match": match,
        "route": action,
        "request_headers_to_add": [_meant(service)],
        "metadata": _metadata(service, timeout_s=0.0, limit_bytes=0),
        "typed_per_filter_config": {BUFFER: _BUFFER_OFF},
    }


def _read(
    service: str, match: dict[str, Any], target: dict[str, Any], settings: GatewaySettings
) -> dict[str, Any]:
    """A read is safe, so it is tried again on another instance whenever the first one fails."""
    policy = _retry("connect-failure,refused-stream,reset", settings.retries, 503)
    policy["per_try_timeout"] = duration(settings.read_try_timeout_s)
    if settings.zone:
        policy["retry_priority"] = _PREVIOUS_PRIORITIES
    return _route(service, match, target, policy, settings, timeout_s=settings.read_timeout_s)


def _writes(
    service: str,
    match: dict[str, Any],
    headers: list[dict[str, Any]],
    target: dict[str, Any],
    settings: GatewaySettings,
) -> list[dict[str, Any]]:
    """A write is tried again after its first byte only if its idempotency key makes that safe."""
    timeout_s = settings.write_timeout_s
    safe = _retry("connect-failure,refused-stream,reset", settings.retries, 502, 503)
    plain = _retry("connect-failure,refused-stream,reset-before-request", settings.retries)
    return [
        _route(
            service, _with(match, [*headers, KEYED]), target, safe, settings, timeout_s=timeout_s
        ),
        _route(service, _with(match, headers), target, plain, settings, timeout_s=timeout_s),
    ]


def _with(match: dict[str, Any], headers: list[dict[str, Any]]) -> dict[str, Any]:
    return match | {"headers": headers} if headers else match


def _route(
    service: str,
    match: dict[str, Any],
    target: dict[str, Any],
    policy: dict[str, Any],
    settings: GatewaySettings,
    *,
    timeout_s: float,
) -> dict[str, Any]:
    header = {"key": TIMEOUT_MS, "value": str(max(1, round(timeout_s * 1000)))}
    return {
        "match": match,
        "route": target | {"timeout": duration(timeout_s), "retry_policy": policy},
        # The service shall not work longer than the gateway waits; a caller's own time is kept.
        "request_headers_to_add": [
            {"header": header, "append_action": "ADD_IF_ABSENT"},
            _meant(service),
        ],
        "metadata": _metadata(service, timeout_s=timeout_s, limit_bytes=settings.body_limit_bytes),
    }


def _meant(service: str) -> dict[str, Any]:
    """Say which service is meant: an instance of another one answers 421, and does nothing."""
    header = {"key": SERVICE, "value": service}
    return {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _metadata(service: str, *, timeout_s: float, limit_bytes: int) -> dict[str, Any]:
    """What the problem documents say about a route."""
    told = {"service": service, "timeout_s": timeout_s, "limit_bytes": limit_bytes}
    return {"filter_metadata": {"headwater": told}}


def _retry(conditions: str, retries: int, *statuses: int) -> dict[str, Any]:
    return {
        "retry_on": f"{conditions},retriable-status-codes",
        # Who answers 421 has not looked at the request: it was meant for another service.
        "retriable_status_codes": [421, *statuses],
        "num_retries": retries,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        "retry_host_predicate": [_PREVIOUS_HOSTS],
        # A hashed cluster offers the same instance several times before another one.
        "host_selection_retry_max_attempts": 20,
    }


def _hash_policy(route: Route) -> dict[str, Any]:
    """Requests that name one target in their path go to one instance, whatever the route."""
    if route.kind != "command" or not route.key:
        return {}
    captured = templates.pattern(route.path, capture=route.key)
    rewrite = {
        "pattern": {"regex": rf"^{captured}(?:\?.*)?$"},
        "substitution": r"\1",
    }
    return {"hash_policy": [{"header": {"header_name": ":path", "regex_rewrite": rewrite}}]}


def _header(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "string_match": {"exact": value}}


def duration(seconds: float) -> str:
    """Return a protobuf JSON duration."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
