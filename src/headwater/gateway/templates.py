"""Path templates such as ``/accounts/{account_id}/deposits``: their order, shape and patterns."""

import functools
import re
from urllib.parse import quote

_PARAMETER = re.compile(r"\{([^\W\d][\w.~-]*)(?::([a-z]+))?\}")
_LITERAL = "!$&'()+,;=:@~%-._*"  # what RFC 3986 allows in a segment besides letters and digits


def parameters(path: str) -> tuple[str, ...]:
    """Return the names of a template's parameters, in order."""
    return tuple(name for name, _ in _PARAMETER.findall(path))


def fault(path: str) -> str:
    """Return what is wrong with a template, or an empty string."""
    if not path.startswith("/"):
        return "the path does not start with '/'"
    if "?" in path or "#" in path:
        return "the path contains a query or a fragment"
    if re.search(r"[{}]", _PARAMETER.sub("", path)):
        return "the path contains a brace that is not part of '{name}'"
    names = parameters(path)
    if len(set(names)) != len(names):
        return "the path names a parameter twice"
    return ""


@functools.lru_cache(100_000)
def shape(path: str) -> str:
    """Return the template without parameter names: two paths of one shape match the same."""
    return _encoded(_PARAMETER.sub(lambda m: "{:path}" if m[2] == "path" else "{}", path))


@functools.lru_cache(100_000)
def rank(path: str) -> tuple[tuple[int, ...], str]:
    """Return a sort key: the most specific template first, literals before parameters."""
    return tuple(_segment_rank(segment) for segment in path.split("/")[1:]), shape(path)


def pattern(path: str, *, capture: str = "") -> str:
    """Return the regular expression (RE2) of a template; ``capture`` names a parameter to group.

    A parameter takes one whole or partial segment, ``{name:path}`` any number of them.
    """
    parts: list[str] = []
    position = 0
    for match in _PARAMETER.finditer(path):
        parts.append(re.escape(_encoded(path[position : match.start()])))
        inner = "[^?]+" if match[2] == "path" else "[^/?]+"
        parts.append(f"({inner})" if match[1] == capture else inner)
        position = match.end()
    parts.append(re.escape(_encoded(path[position:])))
    return "".join(parts)


def _encoded(path: str) -> str:
    return quote(path, safe="/{}" + _LITERAL)


def _segment_rank(segment: str) -> int:
    found = _PARAMETER.search(segment)
    if found is None:
        return 0
    if found[2] == "path":
        return 3
    return 2 if found[0] == segment else 1
