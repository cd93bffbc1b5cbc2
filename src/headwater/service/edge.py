"""The HTTP edge: JSON to commands and queries, answers and errors back, health and metrics."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import HTTPRouteHandler, WebsocketRouteHandler

from headwater._http import problem_handlers, problem_of
from headwater._http.problems import MEDIA_TYPE
from headwater._sql import clock_watch
from headwater.discovery import RouteInfo
from headwater.dispatch.http import HttpForm
from headwater.dispatch.local import LocalCommandBus, LocalQueryBus
from headwater.service.endpoints import Endpoints, respond
from headwater.service.metrics import Metrics
from headwater.service.openapi import openapi_page, swagger_assets
from headwater.service.router import Match, Router, allowed
from headwater.service.settings import ServiceSettings

_encode = msgspec.json.Encoder().encode
_JSON = "application/json"


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
        lags: Callable[[], Awaitable[Iterable[tuple[str, int]]]],
        document: Mapping[str, Any],
        routes: Iterable[Any] = (),
    ) -> None:
        """Build the application.

        Args:
            settings: limits and names.
            commands: the commands that are served.
            queries: the queries that are served.
            metrics: where requests are counted.
            problems: what keeps components from working, by name; ready when empty.
            lags: for each processor how many events it has still to read.
            document: the OpenAPI document of the whole service.
            routes: further Litestar handlers.
        """
        self._settings = settings
        self._metrics = metrics
        self._problems = problems
        self._lags = lags
        self._document = document
        self._extra = tuple(routes)
        self._endpoints = Endpoints(settings, commands, queries, metrics)
        self._forms = [
            *(HttpForm(command) for command in commands.commands),
            *(HttpForm(query) for query in queries.queries),
        ]
        self._handlers = (*self._own_handlers(), *self._extra)
        self.app = self._application()
        self._router = self._routes()

    @property
    def draining(self) -> bool:
        """Whether messages are refused because the instance stops."""
        return self._endpoints.draining

    @draining.setter
    def draining(self, value: bool) -> None:
        self._endpoints.draining = value

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        """Answer one ASGI connection."""
        match = self._router.find(scope) if scope["type"] == "http" else None
        if match is None:
            return self.app(scope, receive, send)
        entry = match.entries.get(scope["method"])
        if entry is None:
            return self._other_method(match, scope, receive, send)
        if entry.endpoint is None:
            return self.app(scope, receive, send)
        values = dict(zip(entry.parameters, match.values, strict=True))
        answering: Awaitable[None] = entry.endpoint(scope, receive, send, values)
        return answering

    async def _other_method(self, match: Match, scope: Any, receive: Any, send: Any) -> None:
        """Answer a method that is not declared for a path: OPTIONS, or an error."""
        if all(entry.endpoint is None for entry in match.entries.values()):
            await self.app(scope, receive, send)
            return
        allow = allowed(match.entries)
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
        return (*own, *_extra_routes(self._extra))

    def _application(self) -> Litestar:
        return Litestar(
            route_handlers=self._handlers,
            exception_handlers=problem_handlers(limit_bytes=self._settings.max_body_bytes),
            request_max_body_size=self._settings.max_body_bytes,
            openapi_config=None,
            logging_config=None,
        )

    def _routes(self) -> Router:
        router = Router()
        for handler in self._handlers:
            if isinstance(handler, HTTPRouteHandler):
                for path in handler.paths:
                    for method in handler.http_methods:
                        router.add(method, path, None)
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
            content = {
                "status": "not ready" if problems else "ready",
                "problems": problems,
                "warnings": clock_watch.troubles(),  # the clocks of the stores count
            }
            return Response(content, status_code=503 if problems else 200)

        @get("/metrics", include_in_schema=False)
        async def metrics() -> Response[bytes]:
            kind = "text/plain; version=0.0.4; charset=utf-8"
            text = self._metrics.exposition(
                in_progress=self._endpoints.in_progress, lags=await self._lags()
            )
            return Response(text, media_type=kind)

        return [openapi, docs, asset, live, ready, metrics]


def _extra_routes(handlers: Iterable[Any]) -> list[RouteInfo]:
    found = []
    for handler in handlers:
        for path in sorted(handler.paths):
            plain = "/" + "/".join(
                f"{{{part[1:-1].partition(':')[0]}}}" if part.startswith("{") else part
                for part in path.strip("/").split("/")
            )
            if isinstance(handler, WebsocketRouteHandler):
                found.append(RouteInfo("GET", plain, "stream"))
                continue
            kind = "stream" if handler.opt.get("stream") else "http"
            found.extend(
                RouteInfo(str(getattr(method, "value", method)), plain, kind)  # type: ignore[arg-type]  # of Literal
                for method in sorted(handler.http_methods)
                if method not in ("OPTIONS", "HEAD")
            )
    return found
