"""The configuration service's HTTP interface: Litestar handlers over a `Repository`."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, get
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from headwater._http.problems import problem_handlers
from headwater._http.signal import Signal, wait_for
from headwater._http.sse import HEADERS, HEARTBEAT, MEDIA_TYPE, encode_event
from headwater.config.api import ConfigDocument
from headwater.config.page import render
from headwater.config.repository import Repository
from headwater.errors import ConfigurationError

LIMIT_BYTES = 100_000

AnyRequest = Request[Any, Any, Any]

_encode = msgspec.json.Encoder().encode


class Feed:
    """Tells watchers when the files have changed."""

    def __init__(self, repository: Repository, *, heartbeat_s: float) -> None:
        """Serve this repository; a silent stream carries a comment every ``heartbeat_s``."""
        self.repository = repository
        self.signal = Signal()
        self.watchers = 0
        self._heartbeat_s = heartbeat_s

    async def stream(
        self, app: str, profiles: tuple[str, ...], label: str, seen: str
    ) -> AsyncIterator[bytes]:
        """Yield server-sent events for ever: the document if it is not the one seen, then changes.

        A state of the files that is refused is not sent: the watcher keeps what it has.
        """
        self.watchers += 1
        try:
            while True:
                following = self.signal.next
                document = self._good(app, profiles, label)
                if document is not None and document.version != seen:
                    seen = document.version
                    yield encode_event("config", _encode(document), id=seen)
                else:
                    yield HEARTBEAT
                while not await wait_for(following, self._heartbeat_s):
                    yield HEARTBEAT
        finally:
            self.watchers -= 1

    def _good(self, app: str, profiles: tuple[str, ...], label: str) -> ConfigDocument | None:
        try:
            return self.repository.document(app, profiles, label)
        except ConfigurationError:
            return None


def make_app(repository: Repository, feed: Feed) -> Litestar:
    """Return the ASGI app of a repository."""
    return Litestar(
        [*_documents(repository, feed), *_pages(repository, feed)],
        exception_handlers=problem_handlers(limit_bytes=LIMIT_BYTES),
        request_max_body_size=LIMIT_BYTES,
        openapi_config=None,
        logging_config=None,
    )


def _documents(repository: Repository, feed: Feed) -> list[ControllerRouterHandler]:
    @get(
        ["/v1/config/{app:str}/{profiles:str}", "/v1/config/{app:str}/{profiles:str}/{label:path}"]
    )
    async def config(request: AnyRequest) -> Response[bytes]:
        document = repository.document(*_asked(request))
        headers = {"ETag": f'"{document.version}"', "Cache-Control": "no-cache"}
        if document.error:
            headers["Warning"] = '110 - "a newer state is refused, see error"'
        if document.version in _etags(request) and not document.error:
            return Response(b"", status_code=304, headers=headers, media_type=MediaType.JSON)
        return Response(_encode(document), headers=headers, media_type=MediaType.JSON)

    @get(_paths("/v1/watch"))
    async def watch(request: AnyRequest) -> Stream:
        app, profiles, label = _asked(request)
        repository.document(app, profiles, label)  # what cannot be served now is an error at once
        seen = request.headers.get("Last-Event-ID", "") or request.query_params.get("version", "")
        events = feed.stream(app, profiles, label, seen)
        return Stream(events, media_type=MEDIA_TYPE, headers=HEADERS)

    return [config, watch]


def _pages(repository: Repository, feed: Feed) -> list[ControllerRouterHandler]:
    def json(content: Any) -> Response[bytes]:
        return Response(_encode(content), media_type=MediaType.JSON)

    @get("/v1/status")
    async def status() -> Response[bytes]:
        errors = repository.errors()
        return json(
            {
                "status": "refused" if errors else "good",
                "errors": errors,
                "source": repository.name,
                "change": repository.state.change,
                "files": [file.name for file in repository.files()],
                "watchers": feed.watchers,
            }
        )

    @get("/health/live")
    async def live() -> Response[bytes]:
        return json({"status": "live"})

    @get("/health/ready")
    async def ready() -> Response[bytes]:
        known = {"status": "ready", "files": len(repository.files())}
        behind = repository.state.error  # what is known is served: no reason to stay away
        return json({**known, "behind": behind} if behind else known)

    @get("/", media_type=MediaType.HTML)
    async def page() -> str:
        return render(repository, watchers=feed.watchers)

    return [status, live, ready, page]


def _paths(base: str) -> list[str]:
    path = f"{base}/{{app:str}}/{{profiles:str}}"
    return [path, f"{path}/{{label:path}}"]


def _asked(request: AnyRequest) -> tuple[str, tuple[str, ...], str]:
    app: str = request.path_params["app"]
    profiles: str = request.path_params["profiles"]
    label = str(request.path_params.get("label", "")).strip("/")
    return app, tuple(profiles.split(",")), label


def _etags(request: AnyRequest) -> set[str]:
    text = request.headers.get("If-None-Match", "")
    return {tag.strip().removeprefix("W/").strip('"') for tag in text.split(",")}


__all__ = ["Feed", "make_app"]
