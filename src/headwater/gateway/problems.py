"""The answers that Envoy gives itself, as problem documents (RFC 9457) of our own errors.

They have the shape of `HeadwaterError.to_problem`, so a Headwater client raises the same typed
error whether a service or the gateway answered.
"""

from collections.abc import Mapping
from typing import Any

from headwater import errors
from headwater.gateway.envoy_routes import KEYED

READY = "/health/ready"

_METHOD = "%REQ(:METHOD)%"
_PATH = "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"
_REQUEST = f"{_METHOD} {_PATH}"
_BODY = "%LOCAL_REPLY_BODY%"
_SERVICE = "%METADATA(ROUTE:headwater:service)%"
_LIMIT = "%METADATA(ROUTE:headwater:limit_bytes)%"
_TIMEOUT = "%METADATA(ROUTE:headwater:timeout_s)%"
_RETRY_AFTER_S = 1


def local_replies() -> dict[str, Any]:
    """Return Envoy's ``local_reply_config``; the first mapper that matches answers."""
    own = {"text_format_source": {"inline_string": _BODY}}
    return {
        "mappers": [
            _mapper(_status("LE", 399), own),
            _mapper(_both(_status("EQ", 404), _flags("NR")), _not_found()),
            _mapper(_header(":path", READY), _draining()),
            _mapper(_flags("UH", "NC"), _no_instance(), retry=True),
            _mapper(_flags("UT", "SI", "DT", "UMSDR"), _late(), status=504),
            _mapper(_both(_flags("UC", "UR", "UPE"), _unsafe()), _lost(), status=502),
            _mapper(_status("EQ", 413), _too_large()),
            _mapper(_status("GE", 500), _unreachable(), retry=True),
        ],
        "body_format": _refused(),
    }


def _not_found() -> dict[str, Any]:
    detail = f"no route for {_REQUEST}: check the method and the path; no service declares it"
    return _document(errors.RouteNotFound, 404, detail, {"method": _METHOD, "path": _PATH})


def _draining() -> dict[str, Any]:
    detail = "the gateway is stopping and accepts no more work: retry on another instance"
    return _document(errors.Draining, 503, detail, {"service": "the gateway"})


def _no_instance() -> dict[str, Any]:
    detail = f"no live instance of '{_SERVICE}' is registered: start one, or retry later"
    fields: dict[str, str | int] = {"service": _SERVICE, "retry_after_s": _RETRY_AFTER_S}
    return _document(errors.NoInstance, 503, detail, fields)


def _late() -> dict[str, Any]:
    detail = (
        f"{_REQUEST} did not finish in time: retry a read with a longer deadline; the outcome of a "
        "write is unknown unless it carried an Idempotency-Key"
    )
    fields: dict[str, str | int] = {"action": _REQUEST, "timeout_s": _TIMEOUT}
    return _document(errors.DeadlineExceeded, 504, detail, fields)


def _lost() -> dict[str, Any]:
    """A plain write whose connection broke: 503 would invite a second try of what may be done."""
    detail = (
        f"the connection to '{_SERVICE}' was lost before it answered, so the outcome is unknown: "
        "look before you try again, or send writes with an Idempotency-Key"
    )
    fields: dict[str, str | int] = {"source": _SERVICE, "remote_status": 502, "detail": detail}
    return _document(errors.RemoteError, 502, detail, fields)


def _too_large() -> dict[str, Any]:
    detail = f"the body is larger than {_LIMIT} bytes: send less"
    return _document(errors.TooLarge, 413, detail, {"limit_bytes": _LIMIT})


def _unreachable() -> dict[str, Any]:
    detail = f"'{_SERVICE}' cannot be reached (%RESPONSE_FLAGS%): retry later"
    return _document(errors.Unavailable, 503, detail, {"retry_after_s": _RETRY_AFTER_S})


def _refused() -> dict[str, Any]:
    """Whatever else Envoy answers: a request that is no HTTP, headers too large, ..."""
    reason = f"the gateway refused the request: {_BODY}"
    return _document(errors.InvalidInput, "%RESPONSE_CODE%", reason, {"reason": reason})


def _document(
    cls: type[errors.HeadwaterError],
    status: int | str,
    detail: str,
    fields: Mapping[str, str | int],
) -> dict[str, Any]:
    return {
        "content_type": "application/problem+json",
        "json_format": {
            "type": f"urn:headwater:error:{cls.code}",
            "title": cls.code.replace("-", " "),
            "status": status,
            "detail": detail,
            "code": cls.code,
            "fields": dict(fields),
        },
    }


def _mapper(
    condition: dict[str, Any], body: dict[str, Any], *, status: int = 0, retry: bool = False
) -> dict[str, Any]:
    mapper: dict[str, Any] = {"filter": condition, "body_format_override": body}
    if status:
        mapper["status_code"] = status
    if retry:
        header = {"key": "retry-after", "value": str(_RETRY_AFTER_S)}
        mapper["headers_to_add"] = [
            {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ]
    return mapper


def _status(operator: str, code: int) -> dict[str, Any]:
    value = {"default_value": code, "runtime_key": f"headwater.status_{operator}_{code}".lower()}
    return {"status_code_filter": {"comparison": {"op": operator, "value": value}}}


def _flags(*flags: str) -> dict[str, Any]:
    return {"response_flag_filter": {"flags": list(flags)}}


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header_filter": {"header": {"name": name, "string_match": {"exact": value}}}}


def _both(*conditions: dict[str, Any]) -> dict[str, Any]:
    return {"and_filter": {"filters": list(conditions)}}


def _unsafe() -> dict[str, Any]:
    """Match a write without an idempotency key."""
    reads = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
    return _both(
        *(
            {"header_filter": {"header": header | {"invert_match": True}}}
            for header in (reads, KEYED)
        )
    )
