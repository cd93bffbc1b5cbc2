"""The HTTP edge: JSON to commands and queries, answers and errors back, health and metrics."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, get_args

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.handlers import HTTPRouteHandler

from headwater._http import problem_handlers, problem_response
from headwater.discovery import RouteInfo
from headwater.dispatch import CommandMessage, QueryMessage
from headwater.dispatch.http import HttpForm
from headwater.dispatch.local import LocalCommandBus, LocalQueryBus
from headwater.errors import DeadlineExceeded, Draining, HeadwaterError, Overloaded, ViewNotFound
from headwater.messages import ConsistencyToken, Metadata, handling
from headwater.messages.headers import (
    CONSISTENCY_TOKEN,
    IDEMPOTENCY_KEY,
    expected_version,
    from_headers,
)
from headwater.service.metrics import Metrics
from headwater.service.openapi import openapi_page, swagger_assets
from headwater.service.settings import ServiceSettings

_encode = msgspec.json.Encoder().encode
_JSON = "application/json"
Answer = Callable[[Request[Any, Any, Any]], Awaitable[Response[bytes]]]


class Edge:
    """The HTTP side of one instance."""

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
        self._commands = commands
        self._queries = queries
        self._metrics = metrics
        self._problems = problems
        self._lags = lags
        self._document = document
        self._extra = tuple(routes)
        self.in_progress = 0
        self.draining = False
        self._forms = [
            *(HttpForm(command) for command in commands.commands),
            *(HttpForm(query) for query in queries.queries),
        ]
        self.app = self._application()

    def routes(self) -> tuple[RouteInfo, ...]:
        """Return what is served, for discovery."""
        own = [
            RouteInfo(
                form.route.method,
                form.route.path,
                "command" if form.kind.kind == "command" else "query",
                form.kind.name,
                form.kind.target if form.kind.target in form.route.parameters else "",
            )
            for form in self._forms
        ]
        return (*own, *_extra_routes(self._extra))

    def _application(self) -> Litestar:
        handlers: list[Any] = []
        for form in self._forms:
            answer = self._command(form) if form.kind.kind == "command" else self._query(form)
            handlers.append(
                HTTPRouteHandler(
                    path=_litestar_path(form.route.path),
                    http_method=form.route.method,  # type: ignore[arg-type]  # checked by @route
                    status_code=200,
                    include_in_schema=False,
                    name=form.kind.name,
                )(answer)
            )
        return Litestar(
            route_handlers=[*handlers, *self._own_handlers(), *self._extra],
            exception_handlers=problem_handlers(limit_bytes=self._settings.max_body_bytes),
            request_max_body_size=self._settings.max_body_bytes,
            openapi_config=None,
            logging_config=None,
        )

    def _command(self, form: HttpForm) -> Answer:
        async def answer(
            request: Request[Any, Any, Any], metadata: Metadata, deadline: float
        ) -> Response[bytes]:
            command = form.command(request.path_params, await request.body())
            headers = _headers(request)
            key = headers.get(IDEMPOTENCY_KEY, "")
            token = headers.get(CONSISTENCY_TOKEN, "")
            version = expected_version(headers)
            message = CommandMessage(command, metadata, key, expected_version=version)
            with handling(metadata, deadline=deadline, token=token):
                result = await self._commands.dispatch(message)
            answered = {CONSISTENCY_TOKEN: result.token, "etag": f'"{result.version}"'}
            return Response(_encode(result), media_type=_JSON, headers=answered)

        return self._guarded(form, answer)

    def _query(self, form: HttpForm) -> Answer:
        optional = type(None) in get_args(form.kind.answer)

        async def answer(
            request: Request[Any, Any, Any], metadata: Metadata, deadline: float
        ) -> Response[bytes]:
            query = form.query(request.path_params, request.query_params.dict())
            text = _headers(request).get(CONSISTENCY_TOKEN, "")
            token = ConsistencyToken.decode(text) if text else None
            with handling(metadata, deadline=deadline, token=text):
                found = await self._queries.dispatch(QueryMessage(query, metadata, token))
            if found is None and not optional:
                raise ViewNotFound(view=form.kind.name, key=form.kind.target_of(query))
            return Response(_encode(found), media_type=_JSON)

        return self._guarded(form, answer)

    def _guarded(
        self,
        form: HttpForm,
        answer: Callable[[Request[Any, Any, Any], Metadata, float], Awaitable[Response[bytes]]],
    ) -> Answer:
        """Surround an answer with admission, the deadline, problem details and metrics."""
        note = self._metrics.route(form.route.method, form.route.path)
        limit = self._settings.max_in_progress
        longest_s = self._settings.request_timeout_s

        async def guarded(request: Request[Any, Any, Any]) -> Response[bytes]:
            began = time.perf_counter()
            self.in_progress += 1
            try:
                self._admit(limit)
                metadata, deadline = from_headers(_headers(request))
                allowed_s = longest_s
                if deadline is not None:
                    allowed_s = min(longest_s, deadline - time.monotonic())
                try:
                    async with asyncio.timeout(allowed_s):
                        ends = time.monotonic() + allowed_s
                        response = await answer(request, metadata, ends)
                except TimeoutError:
                    raise DeadlineExceeded(
                        action=form.kind.name, timeout_s=max(allowed_s, 0.0)
                    ) from None
            except HeadwaterError as error:
                note(error.status, began)
                return problem_response(error)
            except Exception:
                note(500, began)
                raise
            finally:
                self.in_progress -= 1
            note(response.status_code or 200, began)
            return response

        return guarded

    def _admit(self, limit: int) -> None:
        if self.in_progress > limit:
            self._metrics.rejected.inc()
            raise Overloaded(limit=limit)
        if self.draining:
            self._metrics.rejected.inc()
            raise Draining(service=self._settings.service)

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
            content = {"status": "not ready" if problems else "ready", "problems": problems}
            return Response(content, status_code=503 if problems else 200)

        @get("/metrics", include_in_schema=False)
        async def metrics() -> Response[bytes]:
            kind = "text/plain; version=0.0.4; charset=utf-8"
            text = self._metrics.exposition(in_progress=self.in_progress, lags=await self._lags())
            return Response(text, media_type=kind)

        return [openapi, docs, asset, live, ready, metrics]


def _headers(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Return the first header of each (lower-case) name; Litestar's own mapping costs much more."""
    pairs = list(request.scope["headers"])[::-1]
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}


def _litestar_path(template: str) -> str:
    return template.replace("}", ":str}")


def _extra_routes(handlers: Iterable[Any]) -> list[RouteInfo]:
    from litestar.handlers import WebsocketRouteHandler

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
