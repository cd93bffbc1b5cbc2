"""The answers that Envoy gives itself, as problem documents (RFC 9457) of our own errors.

They have the shape of `HeadwaterError.to_problem`, so a Headwater client raises the same typed
error whether a service or the gateway answered.
"""

from collections.abc import Mapping
from typing import Any

from headwater import errors
from headwater.errors import Outcome
from headwater.gateway.envoy_routes import KEYED, READY

_METHOD = "%REQ(:METHOD)%"
_PATH = "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"
_REQUEST = f"{_METHOD} {_PATH}"
_BODY = "%LOCAL_REPLY_BODY%"
_SERVICE = "%METADATA(ROUTE:headwater:service)%"
_LIMIT = "%METADATA(ROUTE:headwater:limit_bytes)%"
_TIMEOUT = "%METADATA(ROUTE:headwater:timeout_s)%"
_RETRY_AFTER_S = 1


def local_replies() -> dict[str, Any]:
    """Return Envoy's ``local_reply_config``; the first mapper that matches answers.

    A read stores nothing, nor does a write that was never sent. One with an idempotency key may
    have been sent before what failed in the end.
    """
    own = {"text_format_source": {"inline_string": _BODY}}
    absent, late, failed = _flags("UH"), _flags("UT", "SI", "DT", "UMSDR"), _status("GE", 500)
    lost, unsent = _flags("UC", "UR", "UPE"), _flags("UF", "UO")
    return {
        "mappers": [
            _mapper(_status("LE", 399), own),
            _mapper(_all(_status("EQ", 404), _flags("NR")), _not_found()),
            _mapper(_all(_header(":path", READY), _flags("LH")), _draining()),
            _mapper(_header(":path", READY), _stalled(), status=200),
            _mapper(_all(_status("EQ", 405), _OPTIONS), own, status=204),
            _mapper(_status("EQ", 405), _other_method()),
            _mapper(_flags("NC"), _unsure(), retry=True),
            _mapper(_all(absent, _WRITE, _KEYED), _no_instance("unknown"), retry=True),
            _mapper(absent, _no_instance("not stored"), retry=True),
            _mapper(_all(late, _WRITE), _late("unknown"), status=504),
            _mapper(late, _late("not stored"), status=504),
            _mapper(_all(lost, _WRITE, _PLAIN), _lost(), status=502),
            _mapper(_status("EQ", 413), _too_large()),
            _mapper(_all(failed, unsent, _PLAIN), _unreachable("not stored"), retry=True),
            _mapper(_all(failed, _WRITE), _unreachable("unknown"), retry=True),
            _mapper(failed, _unreachable("not stored"), retry=True),
        ],
        "body_format": _refused(),
    }


def _not_found() -> dict[str, Any]:
    detail = f"no route for {_REQUEST}: check the method and the path; no service declares it"
    return _document(errors.RouteNotFound, 404, detail, {"method": _METHOD, "path": _PATH})


def _draining() -> dict[str, Any]:
    detail = "the gateway is stopping and accepts no more work: retry on another instance"
    return _document(errors.Draining, 503, detail, {"service": "the gateway"})


def _stalled() -> dict[str, Any]:
    """Envoy serves what it was told last; who would tell it more does not answer."""
    problems = {"gateway": "its control plane does not answer; the last configuration is served"}
    return {
        "content_type": "application/json",
        "json_format": {"status": "degraded", "problems": problems},
    }


def _other_method() -> dict[str, Any]:
    """As an instance answers it."""
    detail = f"{_REQUEST}: Method Not Allowed: allowed are %METADATA(ROUTE:headwater:allow)%"
    return {
        "content_type": "application/problem+json",
        "json_format": {
            "type": "about:blank",
            "title": "Method Not Allowed",
            "status": 405,
            "detail": detail,
            "code": "method-not-allowed",
        },
    }


def _unsure() -> dict[str, Any]:
    what = f"a route for {_REQUEST}"
    fields: dict[str, str | int] = {"what": what, "retry_after_s": _RETRY_AFTER_S}
    detail = errors.NotKnownYet.template.format(what=what)
    return _document(errors.NotKnownYet, 503, detail, fields)


def _no_instance(outcome: Outcome) -> dict[str, Any]:
    detail = f"no live instance of '{_SERVICE}' is registered: start one, or retry later"
    fields: dict[str, str | int] = {"service": _SERVICE, "retry_after_s": _RETRY_AFTER_S}
    return _document(errors.NoInstance, 503, detail, fields, outcome)


def _late(outcome: Outcome) -> dict[str, Any]:
    detail = (
        f"{_REQUEST} did not finish in time: retry a read with a longer deadline; the outcome of a "
        "write is unknown unless it carried an Idempotency-Key"
    )
    fields: dict[str, str | int] = {"action": _REQUEST, "timeout_s": _TIMEOUT}
    return _document(errors.DeadlineExceeded, 504, detail, fields, outcome)


def _lost() -> dict[str, Any]:
    """A plain write whose connection broke: 503 would invite a second try of what may be done."""
    detail = (
        f"the connection to '{_SERVICE}' was lost before it answered, so the outcome is unknown: "
        "look before you try again, or send writes with an Idempotency-Key"
    )
    fields: dict[str, str | int] = {"source": _SERVICE, "remote_status": 502, "detail": detail}
    return _document(errors.RemoteError, 502, detail, fields, "unknown")


def _too_large() -> dict[str, Any]:
    detail = f"the body is larger than {_LIMIT} bytes: send less"
    return _document(errors.TooLarge, 413, detail, {"limit_bytes": _LIMIT})


def _unreachable(outcome: Outcome) -> dict[str, Any]:
    detail = f"'{_SERVICE}' cannot be reached (%RESPONSE_FLAGS%): retry later"
    fields: dict[str, str | int] = {"retry_after_s": _RETRY_AFTER_S}
    return _document(errors.Unavailable, 503, detail, fields, outcome)


def _refused() -> dict[str, Any]:
    """Whatever else Envoy answers: a request that is no HTTP, headers too large, ..."""
    reason = f"the gateway refused the request: {_BODY}"
    return _document(errors.InvalidInput, "%RESPONSE_CODE%", reason, {"reason": reason})


def _document(
    cls: type[errors.HeadwaterError],
    status: int | str,
    detail: str,
    fields: Mapping[str, str | int],
    outcome: Outcome = "not stored",
) -> dict[str, Any]:
    return {
        "content_type": "application/problem+json",
        "json_format": {
            "type": f"urn:headwater:error:{cls.code}",
            "title": cls.code.replace("-", " "),
            "status": status,
            "detail": detail,
            "code": cls.code,
            "outcome": outcome,
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


def _all(*conditions: dict[str, Any]) -> dict[str, Any]:
    return {"and_filter": {"filters": list(conditions)}}


_OPTIONS = _header(":method", "OPTIONS")
_READ = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
_WRITE: dict[str, Any] = {"header_filter": {"header": _READ | {"invert_match": True}}}
_KEYED: dict[str, Any] = {"header_filter": {"header": KEYED}}
_PLAIN: dict[str, Any] = {"header_filter": {"header": KEYED | {"invert_match": True}}}
