"""Which message a request is for: a tree over the segments of paths, built once at the start.

A path is matched as it was sent, segment by segment, each decoded by itself, so that an id may
hold an encoded slash. A literal segment goes before a parameter, without a way back: beside
``/items/special``, ``/items/{id}`` never sees ``special``. Empty segments do not count.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

from headwater.errors import DeclarationError

Endpoint = Callable[[Any, Any, Any, dict[str, str]], Awaitable[None]]
"""``endpoint(scope, receive, send, values)``: an ASGI app that is given the path's parameters."""


OWN_ROUTES = (
    "/docs",
    "/docs/assets/{name}",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/openapi.json",
)
"""Paths that every instance answers itself, by GET."""


class Entry(NamedTuple):
    """What is served at a path by one method."""

    parameters: tuple[str, ...]
    endpoint: Endpoint | None
    """None: whatever stands behind the router."""


class Match(NamedTuple):
    """What a path leads to."""

    entries: dict[str, Entry]
    values: list[str]


class _Node:
    __slots__ = ("entries", "literals", "parameter", "rest")

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.rest = False


class Router:
    """The routes of messages, and those of what stands behind it, by path and method."""

    def __init__(self) -> None:
        """Know no route yet."""
        self._root = _Node()

    def add(self, method: str, template: str, endpoint: Endpoint | None) -> None:
        """Add a route; ``{name}`` stands for one segment, ``{name:path}`` for all that follow.

        Raises:
            DeclarationError: the route is taken, a name occurs twice, or a brace stands inside a
                segment.
        """
        node, names = self._root, list[str]()
        for part in filter(None, template.split("/")):
            if not part.startswith("{"):
                if "{" in part or "}" in part:
                    raise _wrong(method, template, f"segment {part!r} must be literal or {{name}}")
                node = node.literals.setdefault(part, _Node())
                continue
            name, _, kind = part.strip("{}").partition(":")
            if not part.endswith("}") or name in names:
                raise _wrong(method, template, f"segment {part!r} must be {{name}}, each name once")
            names.append(name)
            node.parameter = node = node.parameter or _Node()
            node.rest = node.rest or kind == "path"
        if method in node.entries:
            raise _wrong(method, template, "is declared twice: change one of the two")
        node.entries[method] = Entry(tuple(names), endpoint)

    def find(self, scope: Any) -> Match | None:
        """Return what the path of an ASGI scope leads to; None: nothing that is known here."""
        path = scope["path"]
        raw = scope.get("raw_path")
        encoded = raw is not None and b"%" in raw
        parts = (raw.decode("latin-1") if encoded else path).split("/")
        node, values = self._root, list[str]()
        for part in parts:
            if not part:
                continue
            if encoded:
                part = unquote(part)  # noqa: PLW2901  # the segment as it is meant
            child = node.literals.get(part)
            if child is None:
                child = node.parameter
                if child is None:
                    return None
                values.append(part)
                if child.rest:
                    node = child
                    break
            node = child
        return Match(node.entries, values) if node.entries else None


def allowed(entries: dict[str, Entry]) -> str:
    """Return the value of ``Allow`` for a path."""
    return ", ".join(sorted({*entries, "OPTIONS"}))


def _wrong(method: str, template: str, reason: str) -> DeclarationError:
    return DeclarationError(subject=f"route {method} {template}", reason=reason)


__all__ = ["OWN_ROUTES", "Endpoint", "Entry", "Match", "Router", "allowed"]
