"""The HTTP edge: JSON to commands and queries, answers and errors back, health and metrics."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import HTTPRouteHandler

from headwater._http import problem_of
from headwater._http.head import without_content
from headwater._http.problems import MEDIA_TYPE
from headwater.discovery import RouteInfo
from headwater.dispatch.http import HttpForm
from headwater.dispatch.local import LocalCommandBus, LocalQueryBus
from headwater.errors import WrongService
from headwater.messages.headers import SERVICE
from headwater.service.authentication import Authenticate, identifying
from headwater.service.endpoints import Endpoints, respond
from headwater.service.metrics import Figures, Metrics
from headwater.service.openapi import openapi_page, swagger_assets
from headwater.service.own_routes import (
    application,
    endpoint_of,
    in_context,
    own_endpoints,
    own_routes,
)
from headwater.service.router import Endpoint, Match, Router, allowed
from headwater.service.settings import ServiceSettings

_encode = msgspec.json.Encoder().encode
_JSON = "application/json"
_SERVICE = SERVICE.encode()


class Edge:
    """The HTTP side of one instance: an ASGI application.

    Messages are answered by `Endpoints`; all else (health, metrics, documentation, routes of the
    service's own) by a Litestar application behind them.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        commands: LocalCommandBus,
        queries: LocalQueryBus,
        *,
        metrics: Metrics,
        problems: Callable[[], Awaitable[Mapping[str, str]]],
        concerns: Callable[[], Awaitable[Mapping[str, str]]],
        figures: Callable[[], Awaitable[Iterable[Figures]]],
        document: Mapping[str, Any],
        routes: Iterable[Any] = (),
        authenticate: Authenticate | None = None,
    ) -> None:
        """Build the application.

        Args:
            settings: limits and names.
            commands: the commands that are served.
            queries: the queries that are served.
            metrics: where requests are counted.
            problems: what keeps components from working, by name; ready when empty.
            concerns: what somebody should look at, by name, though all goes on.
            figures: what is counted of each processor.
            document: the OpenAPI document of the whole service.
            routes: further Litestar handlers.
            authenticate: asked who makes each request for a message or one of ``routes``.
        """
        self._settings = settings
        self._service = settings.service.encode()
        self._metrics = metrics
        self._problems = problems
        self._concerns = concerns
        self._figures = figures
        self._document = document
        self._extra = tuple(routes)
        self._identify = identifying(authenticate, timeout_s=settings.request_timeout_s)
        self._endpoints = Endpoints(settings, commands, queries, metrics, identify=self._identify)
        self._forms = [
            *(HttpForm(command) for command in commands.commands),
            *(HttpForm(query) for query in queries.queries),
        ]
        limit = self._settings.max_body_bytes
        own = self._own_handlers()
        # What is no HTTP handler (WebSockets, mounted apps) is found by Litestar alone. All else is
        # not there: it decodes a path before it looks, and would find what is not meant.
        mounted = [each for each in self._extra if not isinstance(each, HTTPRouteHandler)]
        self.app = application((*own, *mounted), limit_bytes=limit)
        self._router = self._routes(own)
        self._others = in_context(self.app, identify=self._identify) if mounted else self.app

    @property
    def draining(self) -> bool:
        """Whether messages are refused because the instance stops."""
        return self._endpoints.draining

    @draining.setter
    def draining(self, value: bool) -> None:
        self._endpoints.draining = value

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        """Answer one ASGI connection."""
        if (wanted := _meant(scope)) is not None and wanted != self._service:
            return _refuse(wanted, self._service.decode(), scope, send)
        match = self._router.find(scope) if scope["type"] == "http" else None
        if match is None:
            unmatched: Awaitable[None] = self._others(scope, receive, send)
            return unmatched
        entry = match.entry
        if entry is None:
            return self._other_method(match, scope, send)
        values = dict(zip(entry.parameters, match.values, strict=True))
        if scope["method"] == "HEAD" and not entry.head:
            app = partial(_called, entry.endpoint, values)
            return without_content(app, scope, receive, send)
        answering: Awaitable[None] = entry.endpoint(scope, receive, send, values)
        return answering

    async def _other_method(self, match: Match, scope: Any, send: Any) -> None:
        """Answer a method that is not declared for a path: OPTIONS, or an error."""
        allow = allowed(match.methods)
        if scope["method"] == "OPTIONS":
            headers = [(b"allow", allow.encode())]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        error = MethodNotAllowedException(headers={"allow": allow})
        status, _, body = problem_of(error, scope)
        told = [(b"allow", allow.encode()), (b"content-type", MEDIA_TYPE.encode())]
        await respond(send, status, told, body)

    def routes(self) -> tuple[RouteInfo, ...]:
        """Return what is served, for discovery."""
        own = [
            RouteInfo(
                form.route.method,
                form.route.path,
                "command" if form.kind.kind == "command" else "query",
                form.kind.name,
                form.key,
            )
            for form in self._forms
        ]
        return (*own, *own_routes(self._extra))

    def _routes(self, own: Iterable[HTTPRouteHandler]) -> Router:
        router = Router()
        for handler in own:
            for path in handler.paths:
                router.add("GET", path, endpoint_of(self.app))
        limit = self._settings.max_body_bytes
        for method, path, endpoint in own_endpoints(
            self._extra, limit_bytes=limit, identify=self._identify
        ):
            router.add(method, path, endpoint)
        for form in self._forms:
            router.add(form.route.method, form.route.path, self._endpoints.endpoint(form))
        return router

    def _own_handlers(self) -> list[Any]:
        settings = self._settings
        document = _encode(self._document)
        assets = swagger_assets()

        @get("/openapi.json", include_in_schema=False)
        async def openapi() -> Response[bytes]:
            return Response(document, media_type=_JSON)

        @get("/docs", include_in_schema=False)
        async def docs() -> Response[str]:
            return Response(openapi_page(settings.service), media_type="text/html")

        @get("/docs/assets/{name:str}", include_in_schema=False, sync_to_thread=False)
        def asset(request: Request[Any, Any, Any]) -> Response[bytes]:
            kinds = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
            name = request.path_params["name"]
            if name not in kinds:
                return Response(b"", status_code=404)
            return Response((assets / name).read_bytes(), media_type=kinds[name])

        @get("/health/live", include_in_schema=False)
        async def live() -> dict[str, str]:
            return {"status": "live", "instance": settings.instance}

        @get("/health/ready", include_in_schema=False)
        async def ready() -> Response[dict[str, Any]]:
            problems = dict(await self._problems())
            if self.draining:
                problems["instance"] = "is draining"
            concerns = dict(await self._concerns())
            status = "not ready" if problems else "degraded" if concerns else "ready"
            content = {"status": status, "problems": problems, "concerns": concerns}
            return Response(content, status_code=503 if problems else 200)

        @get("/metrics", include_in_schema=False)
        async def metrics() -> Response[bytes]:
            kind = "text/plain; version=0.0.4; charset=utf-8"
            text = self._metrics.exposition(
                in_progress=self._endpoints.in_progress, processors=await self._figures()
            )
            return Response(text, media_type=kind)

        return [openapi, docs, asset, live, ready, metrics]


async def _called(
    endpoint: Endpoint, values: dict[str, str], scope: Any, receive: Any, send: Any
) -> None:
    await endpoint(scope, receive, send, values)


def _meant(scope: Any) -> bytes | None:
    """Return the service that a request is meant for; None when it does not say."""
    for name, value in scope.get("headers", ()):
        if name == _SERVICE:
            found: bytes = value
            return found
    return None


async def _refuse(wanted: bytes, actual: str, scope: Any, send: Any) -> None:
    """Answer a request that was meant for another service, without looking at it."""
    error = WrongService(expected=wanted.decode("latin-1"), actual=actual)
    status, headers, body = problem_of(error, scope)
    told = [(name.encode(), value.encode()) for name, value in headers.items()]
    told.append((b"content-type", MEDIA_TYPE.encode()))
    if scope["type"] == "http":
        await respond(send, status, told, body)
    elif "websocket.http.response" in scope.get("extensions", {}):
        start = {"status": status, "headers": told}
        await send({"type": "websocket.http.response.start", **start})
        await send({"type": "websocket.http.response.body", "body": body})
    else:
        await send({"type": "websocket.close", "code": 1008})
