"""The registry's HTTP interface: Litestar handlers over a `Registry` and its `Feed`."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, delete, get, post, put
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from headwater._http.problems import problem_handlers, read_json
from headwater._http.sse import HEADERS, MEDIA_TYPE
from headwater.discovery.api import Instance, Status
from headwater.discovery.feed import Feed, Snapshot
from headwater.discovery.page import render
from headwater.discovery.registry import Registry
from headwater.discovery.sharing import Sharing
from headwater.errors import (
    InstanceNotFound,
    InvalidInput,
    MalformedMessage,
    NotKnownYet,
    ServiceNotFound,
)

LIMIT_BYTES = 1_000_000
WAIT_S_MAX = 600.0
INDEX_HEADER = "X-Headwater-Index"

AnyRequest = Request[Any, Any, Any]
Stored = Callable[[], Awaitable[None]]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}
_RESUME = re.compile(r"([0-9a-f]+)\.(\d+)")


class StatusChange(msgspec.Struct):
    """The body of a status override."""

    status: Status


_instance = msgspec.json.Decoder(Instance)
_status_change = msgspec.json.Decoder(StatusChange)
_encode = msgspec.json.Encoder().encode


def make_app(registry: Registry, feed: Feed, sharing: Sharing | None = None) -> Litestar:
    """Return the ASGI app of a registry, and of how it shares what it knows."""
    return Litestar(
        [
            *_instances(registry, sharing.settled if sharing is not None else _at_once),
            *_services(registry, feed),
            *_pages(registry, feed, sharing),
        ],
        exception_handlers=problem_handlers(limit_bytes=LIMIT_BYTES),
        request_max_body_size=LIMIT_BYTES,
        openapi_config=None,
        logging_config=None,
    )


def _json(
    content: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Response[bytes]:
    return Response(
        _encode(content), status_code=status, headers=headers, media_type=MediaType.JSON
    )


def _id(request: AnyRequest) -> str:
    id: str = request.path_params["id"]
    return id


async def _at_once() -> None:
    """Wait for nothing: there is no store."""


def _instances(registry: Registry, stored: Stored) -> list[ControllerRouterHandler]:
    @post("/v1/instances")
    async def register(request: AnyRequest) -> Response[bytes]:
        instance = await read_json(request, _instance, name="the instance")
        listed = registry.register(instance)
        await stored()
        return _json(listed, 201, {"Location": f"/v1/instances/{listed.id}"})

    @get("/v1/instances/{id:str}")
    async def read(request: AnyRequest) -> Response[bytes]:
        try:
            return _json(registry.get(_id(request)))
        except InstanceNotFound:
            _check_settled(registry, f"instance {_id(request)!r}")
            raise

    @put("/v1/instances/{id:str}")
    async def update(request: AnyRequest) -> Response[bytes]:
        instance = await read_json(request, _instance, name="the instance")
        if instance.id != (id := _id(request)):
            raise MalformedMessage(
                name="the instance", reason=f"its id is {instance.id!r}, the path says {id!r}"
            )
        listed = registry.update(instance)
        await stored()
        return _json(listed)

    @delete("/v1/instances/{id:str}")
    async def deregister(request: AnyRequest) -> None:
        registry.deregister(_id(request))
        await stored()

    @put("/v1/instances/{id:str}/lease")
    async def renew(request: AnyRequest) -> Response[bytes]:
        return _json(registry.renew(_id(request)))

    @put("/v1/instances/{id:str}/status")
    async def override(request: AnyRequest) -> Response[bytes]:
        change = await read_json(request, _status_change, name="the status")
        listed = registry.override(_id(request), change.status)
        await stored()
        return _json(listed)

    @delete("/v1/instances/{id:str}/status", status_code=200)
    async def restore(request: AnyRequest) -> Response[bytes]:
        listed = registry.override(_id(request), None)
        await stored()
        return _json(listed)

    return [register, read, update, deregister, renew, override, restore]


def _check_settled(registry: Registry, what: str) -> None:
    if registry.settling_s:
        raise NotKnownYet(what=what, retry_after_s=registry.settling_s)


def _services(registry: Registry, feed: Feed) -> list[ControllerRouterHandler]:
    @get("/v1/services")
    async def services(request: AnyRequest) -> Response[bytes]:
        index = _number(request, "index")
        if index is not None:
            await feed.wait_beyond(index, _wait_s(request))
        content = {
            "epoch": registry.epoch,
            "revision": registry.revision,
            "settling_s": registry.settling_s,
            "services": dict(registry.services()),
        }
        return _json(content, headers={INDEX_HEADER: str(registry.revision)})

    @get("/v1/services/{name:str}")
    async def service(request: AnyRequest) -> Response[bytes]:
        known = registry.services()
        name = request.path_params["name"]
        if name not in known:
            _check_settled(registry, f"service {name!r}")
            raise ServiceNotFound(service=name, known=list(known))
        content = {"name": name, "revision": registry.revision, "instances": known[name]}
        return _json(content, headers={INDEX_HEADER: str(registry.revision)})

    @get("/v1/snapshot")
    async def snapshot() -> Response[bytes]:
        return _json(Snapshot.of(registry))

    @get("/v1/watch")
    async def watch(request: AnyRequest) -> Stream:
        epoch, revision = _resume_after(request)
        return Stream(feed.stream(epoch, revision), media_type=MEDIA_TYPE, headers=HEADERS)

    @get("/v1/prometheus")
    async def prometheus() -> Response[bytes]:
        return _json([_target(i) for i in registry.all() if i.status != "DOWN"])

    return [services, service, snapshot, watch, prometheus]


def _pages(
    registry: Registry, feed: Feed, sharing: Sharing | None
) -> list[ControllerRouterHandler]:
    @get("/", media_type=MediaType.HTML)
    async def page() -> str:
        return render(registry, sharing.status if sharing is not None else None)

    @get("/health/live")
    async def live() -> Response[bytes]:
        return _json({"status": "live"})

    @get("/health/ready")
    async def ready() -> Response[bytes]:
        return _json(
            {
                "status": "ready",
                "epoch": registry.epoch,
                "revision": registry.revision,
                "settling_s": registry.settling_s,
                "instances": len(registry.all()),
                "watchers": feed.watchers,
                "store": sharing.status if sharing is not None else None,
            }
        )

    return [page, live, ready]


def _number(request: AnyRequest, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput(reason=f"{name} is {text!r}, expected a number: use a revision")
    return int(text)


def _wait_s(request: AnyRequest) -> float:
    text = request.query_params.get("wait", "5m")
    match = _DURATION.fullmatch(text)
    if match is None:
        raise InvalidInput(reason=f"wait is {text!r}, expected a time such as 500ms, 30s or 5m")
    return min(float(match[1]) * _UNIT_S[match[2]], WAIT_S_MAX)


def _resume_after(request: AnyRequest) -> tuple[str, int]:
    text = request.headers.get("Last-Event-ID") or request.query_params.get("revision", "")
    if not text:
        return "", 0
    match = _RESUME.fullmatch(text)
    if match is None:
        raise InvalidInput(
            reason=f"cannot resume after {text!r}, expected the id of an event, <epoch>.<revision>"
            ": leave it out to begin with a snapshot"
        )
    return match[1], int(match[2])


def _target(instance: Instance) -> dict[str, Any]:
    labels = {
        "__scheme__": instance.scheme,
        "__meta_headwater_service": instance.service,
        "__meta_headwater_instance": instance.id,
        "__meta_headwater_role": instance.role,
        "__meta_headwater_status": instance.status,
        "__meta_headwater_zone": instance.zone,
        "__meta_headwater_version": instance.version,
    }
    for key, value in instance.metadata.items():
        labels["__meta_headwater_metadata_" + re.sub(r"[^A-Za-z0-9_]", "_", key)] = value
    return {"targets": [instance.url.partition("//")[2]], "labels": labels}


__all__ = ["INDEX_HEADER", "make_app"]
