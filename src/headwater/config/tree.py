"""Nested settings: merging, paths, and placeholders. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Path = tuple[str | int, ...]
Tree = dict[str, Any]

_PLAIN = re.compile(r"[^.\[\]]+")
_SECRET = re.compile(r"password|passwd|secret|token|key|credential", re.IGNORECASE)
_DEPTH_MAX = 20

MASK = "******"
MISSING: Any = object()


class PlaceholderError(Exception):
    """A placeholder cannot be resolved; the message says which and why."""


def merge(low: Tree, high: Tree) -> Tree:
    """Return a new tree: mappings are merged, anything else of ``high`` replaces."""
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = merge(below, value) if below is not None and both else value
    return merged


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield path and value of every leaf; empty mappings and lists are leaves too."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def flatten(tree: Tree) -> dict[str, Any]:
    """Return ``{"a.b[0]": value}``, with a key that has dots itself as ``a[x.y]``."""
    return {dotted(path): value for path, value in leaves(tree)}


def dotted(path: Path) -> str:
    """Return a path as text."""
    text = ""
    for step in path:
        if isinstance(step, int) or not _PLAIN.fullmatch(step):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def parse_path(text: str) -> Path:
    """Return the path of a text such as ``a.b[0]``; the reverse of `dotted`."""
    path: list[str | int] = []
    for name, inner in re.findall(r"([^.\[\]]+)|\[([^\]]*)\]", text):
        path.append(name or (int(inner) if inner.isdigit() else inner))
    return tuple(path)


def lookup(tree: Any, path: Path) -> Any:
    """Return what is at a path, else `MISSING`."""
    for step in path:
        in_mapping = isinstance(tree, dict) and step in tree
        in_list = isinstance(tree, list) and isinstance(step, int) and step < len(tree)
        if not (in_mapping or in_list):
            return MISSING
        tree = tree[step]
    return tree


def is_secret(path: Path) -> bool:
    """Whether a value should not be shown: its key, or a section's, sounds like a secret."""
    return any(isinstance(step, str) and _SECRET.search(step) for step in path)


def mask(tree: Any, path: Path = ()) -> Any:
    """Return a copy with secrets replaced."""
    if isinstance(tree, dict):
        return {key: mask(value, (*path, key)) for key, value in tree.items()}
    if isinstance(tree, list):
        return [mask(value, (*path, index)) for index, value in enumerate(tree)]
    return MASK if is_secret(path) and tree is not None else tree


def resolve(
    tree: Tree,
    environment: Mapping[str, str],
    fail: Callable[[Path, str], Exception],
) -> Tree:
    r"""Return a copy in which every ``${name:default}`` is replaced.

    A name is an environment variable, else a key of the tree, else the default holds. A value
    that is one placeholder for another key takes that key's value with its type; everything else
    becomes text. ``\${`` is a literal ``${``. Defaults may hold placeholders.

    Args:
        tree: the settings, completely merged.
        environment: variables, by exact name.
        fail: makes the exception to raise for a path and a reason.

    Raises:
        Exception: what ``fail`` makes, for an unknown name without default or a circle.
    """
    resolver = _Resolver(tree, environment)

    def walk(value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return {key: walk(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item, (*path, index)) for index, item in enumerate(value)]
        try:
            return resolver.value(value, (dotted(path),))
        except PlaceholderError as error:
            raise fail(path, str(error)) from None

    resolved: Tree = walk(tree, ())
    return resolved


class _Resolver:
    def __init__(self, tree: Tree, environment: Mapping[str, str]) -> None:
        self._tree = tree
        self._environment = environment

    def value(self, value: Any, trail: Sequence[str]) -> Any:
        if isinstance(value, dict):
            return {key: self.value(item, trail) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, trail) for item in value]
        if not isinstance(value, str) or "${" not in value:
            return value
        parts = list(self._parts(value, trail))
        return parts[0] if len(parts) == 1 else "".join(_text(part) for part in parts)

    def _parts(self, text: str, trail: Sequence[str]) -> Iterator[Any]:
        literal, at = "", 0
        while (found := text.find("${", at)) >= 0:
            if found and text[found - 1] == "\\":
                literal += text[at : found - 1] + "${"
                at = found + 2
                continue
            if literal + text[at:found]:
                yield literal + text[at:found]
            literal = ""
            end = _closing(text, found + 2)
            yield self._name(text[found + 2 : end], trail)
            at = end + 1
        if literal + text[at:]:
            yield literal + text[at:]

    def _name(self, content: str, trail: Sequence[str]) -> Any:
        name, colon, default = content.partition(":")
        name = name.strip()
        if name in self._environment:
            return self._environment[name]
        path = parse_path(name)
        target = lookup(self._tree, path) if path else MISSING
        if target is not MISSING:
            key = dotted(path)
            if key in trail or len(trail) > _DEPTH_MAX:
                raise PlaceholderError(f"placeholders go in a circle: {' → '.join((*trail, key))}")
            return self.value(target, (*trail, key))
        if colon:
            return self.value(default, trail) if "${" in default else default
        raise PlaceholderError(
            f"placeholder ${{{name}}} is neither a variable nor a key: "
            f"define it, or give a default: ${{{name}:...}}"
        )


def _closing(text: str, start: int) -> int:
    depth = 1
    for index in range(start, len(text)):
        if text.startswith("${", index):
            depth += 1
        elif text[index] == "}":
            depth -= 1
            if depth == 0:
                return index
    raise PlaceholderError(f"placeholder {text[start - 2 :]!r} is not closed: add }}")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, dict | list):
        raise PlaceholderError("a section or list cannot stand inside a text: name a single value")
    return str(value)
