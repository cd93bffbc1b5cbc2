"""Which endpoint a request is for: a tree over the segments of paths, built once at the start.

A path is matched as it was sent, segment by segment, each decoded by itself, so that an id may
hold an encoded slash. Empty segments do not count. Of all templates that match a path and have the
method, the most specific one decides: segment by segment, from the left, a literal goes before a
parameter, and that before one for the rest of the path. (The gateway goes by the same rule.)
"""

from collections.abc import Awaitable, Callable, Collection, Iterable
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
    endpoint: Endpoint
    head: bool
    """Whether it is for HEAD alone; else GET's answers that, too."""


class Match(NamedTuple):
    """What a request leads to.

    Attributes:
        entry: what is to answer; None: no template that matches the path has the method.
        values: of the parameters.
        methods: without an entry: those that the path has.
    """

    entry: Entry | None
    values: list[str]
    methods: Collection[str]


class _Node:
    __slots__ = ("entries", "literals", "parameter", "rest")

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.rest: _Node | None = None


class Router:
    """The routes of messages, and those of what stands behind it, by path and method."""

    def __init__(self) -> None:
        """Know no route yet."""
        self._root = _Node()

    def add(self, method: str, template: str, endpoint: Endpoint) -> None:
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
            if kind == "path":
                node.rest = node = node.rest or _Node()
            else:
                node.parameter = node = node.parameter or _Node()
        if method in node.entries:
            raise _wrong(method, template, "is declared twice: change one of the two")
        node.entries[method] = Entry(tuple(names), endpoint, method == "HEAD")

    def find(self, scope: Any) -> Match | None:
        """Return what an ASGI scope leads to; None: no template matches its path."""
        path = scope["path"]
        raw = scope.get("raw_path")
        encoded = raw is not None and b"%" in raw
        parts = [part for part in (raw.decode("latin-1") if encoded else path).split("/") if part]
        if encoded:
            parts = [unquote(part) for part in parts]  # each segment as it is meant
        search = _Search(parts, scope["method"])
        entry = search.below(self._root, 0)
        if entry is None and not search.methods:
            return None
        return Match(entry, search.values, search.methods)


class _Search:
    """Looks for the most specific template that matches a path and has a method."""

    __slots__ = ("_method", "_parts", "methods", "values")

    def __init__(self, parts: list[str], method: str) -> None:
        self._parts = parts
        self._method = method
        self.values: list[str] = []
        self.methods: set[str] = set()
        """Of templates that match and do not have the method."""

    def below(self, node: _Node, at: int) -> Entry | None:
        """Return the entry for the parts from a number on; the parameters are in ``values``."""
        if at == len(self._parts):
            return self._of(node)
        part = self._parts[at]
        literal = node.literals.get(part)
        entry = None if literal is None else self.below(literal, at + 1)
        if entry is None and node.parameter is not None:
            self.values.append(part)
            entry = self.below(node.parameter, at + 1)
            if entry is None:
                self.values.pop()
        if entry is None and node.rest is not None:
            self.values.append("/".join(self._parts[at:]))
            entry = self._of(node.rest)
            if entry is None:
                self.values.pop()
        return entry

    def _of(self, node: _Node) -> Entry | None:
        entry = node.entries.get(self._method)
        if entry is None and self._method == "HEAD":  # RFC 9110, section 9.3.2
            entry = node.entries.get("GET")
        if entry is None:
            self.methods.update(node.entries)
        return entry


def allowed(methods: Iterable[str]) -> str:
    """Return the value of ``Allow`` for a path that has these methods."""
    found = {*methods, "OPTIONS"}
    return ", ".join(sorted(found | {"HEAD"} if "GET" in found else found))


def _wrong(method: str, template: str, reason: str) -> DeclarationError:
    return DeclarationError(subject=f"route {method} {template}", reason=reason)


__all__ = ["OWN_ROUTES", "Endpoint", "Entry", "Match", "Router", "allowed"]
