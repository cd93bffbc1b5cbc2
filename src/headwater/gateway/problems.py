"""The answers that Envoy gives itself, as problem documents (RFC 9457) of our own errors.

They have the shape of `HeadwaterError.to_problem`, so a Headwater client raises the same typed
error whether a service or the gateway answered.
"""

from typing import Any

from headwater import errors

IDEMPOTENCY_KEY = "idempotency-key"
READY = "/health/ready"

_REQUEST = "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"
_SERVICE = "%METADATA(ROUTE:headwater:service)%"
_RETRY_AFTER_S = 1


def local_replies() -> dict[str, Any]:
    """Return Envoy's ``local_reply_config``; the first mapper that matches answers."""
    no_instance = _document(
        errors.NoInstance,
        503,
        f"no live instance of '{_SERVICE}' is registered: start one, or retry later",
        service=_SERVICE,
        retry_after_s=_RETRY_AFTER_S,
    )
    unreachable = _document(
        errors.Unavailable,
        503,
        f"'{_SERVICE}' cannot be reached (%RESPONSE_FLAGS%): retry later",
        retry_after_s=_RETRY_AFTER_S,
    )
    lost = _document(
        errors.RemoteError,
        502,
        f"the connection to '{_SERVICE}' was lost before it answered, so the outcome is unknown: "
        "look before you try again, or send writes with an Idempotency-Key",
        source=_SERVICE,
        remote_status=502,
    )
    late = _document(
        errors.DeadlineExceeded,
        504,
        f"{_REQUEST} did not finish in time: retry a read with a longer deadline; the outcome of "
        "a write is unknown unless it carried an Idempotency-Key",
        action=_REQUEST,
        timeout_s="%METADATA(ROUTE:headwater:timeout_s)%",
    )
    return {
        "mappers": [
            _mapper(_status("LE", 399), {"text_format_source": {"inline_string": _BODY}}),
            _mapper(_both(_status("EQ", 404), _flags("NR")), _document(*_NOT_FOUND[:3], **_PATH)),
            _mapper(_header(":path", READY), _document(*_DRAINING, service="the gateway")),
            _mapper(_flags("UH", "NC"), no_instance, retry=True),
            _mapper(_flags("UT", "SI", "DT", "UMSDR"), late, status=504),
            _mapper(_both(_flags("UC", "UR", "UPE"), _unsafe()), lost, status=502),
            _mapper(_status("EQ", 413), _document(*_TOO_LARGE, **_LIMIT)),
            _mapper(_status("GE", 500), unreachable, retry=True),
        ],
        "body_format": _document(
            errors.InvalidInput,
            "%RESPONSE_CODE%",
            f"Envoy refused the request: {_BODY}",
            reason=f"Envoy refused the request: {_BODY}",
        ),
    }


_BODY = "%LOCAL_REPLY_BODY%"
_NOT_FOUND = (
    errors.RouteNotFound,
    404,
    f"no route for {_REQUEST}: check the method and the path; no running service declares it",
)
_PATH = {"method": "%REQ(:METHOD)%", "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"}
_DRAINING = (
    errors.Draining,
    503,
    "the gateway is stopping and accepts no more work: retry on another instance",
)
_LIMIT = {"limit_bytes": "%METADATA(ROUTE:headwater:limit_bytes)%"}
_TOO_LARGE = (
    errors.TooLarge,
    413,
    "the body is larger than %METADATA(ROUTE:headwater:limit_bytes)% bytes: send less",
)


def _document(
    cls: type[errors.HeadwaterError], status: int | str, detail: str, **fields: str | int
) -> dict[str, Any]:
    return {
        "content_type": "application/problem+json",
        "json_format": {
            "type": f"urn:headwater:error:{cls.code}",
            "title": cls.code.replace("-", " "),
            "status": status,
            "detail": detail,
            "code": cls.code,
            "fields": fields,
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
    key = {"name": IDEMPOTENCY_KEY, "present_match": True}
    return _both(
        *({"header_filter": {"header": header | {"invert_match": True}}} for header in (reads, key))
    )
