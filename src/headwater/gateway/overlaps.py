"""Which methods a path has, over all templates that match it. Pure.

Templates overlap: ``/a/{x}/c`` and ``/a/b/{y}`` both match ``/a/b/c``. What all paths of one
template have in common is answered by an entry for it, and what only the paths of both have by one
for ``/a/b/c``, their overlap.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

from headwater.gateway import templates
from headwater.gateway.model import Route

_Segments = tuple[str, ...]
_OVERLAPS_MAX = 1000  # of templates that begin alike: more are not looked for
_ANY, _REST = "{}", "{:path}"


def allowed(routes: Iterable[Route]) -> list[tuple[str, tuple[str, ...]]]:
    """Return paths and the values of ``Allow`` for them, the most specific path first.

    A path that has every method needs none.
    """
    methods: dict[_Segments, set[str]] = defaultdict(set)
    for route in routes:
        methods[_segments(route.path)].add(route.method)
    found: list[tuple[str, tuple[str, ...]]] = []
    for group in _groups(methods):
        for segments in _with_overlaps(group):
            names: set[str] = set()
            for other in group:
                if other == segments or _common(other, segments) == segments:
                    names |= methods[other]
            if "*" not in names:
                more = {"OPTIONS"} | ({"HEAD"} if "GET" in names else set())
                found.append((_template(segments), tuple(sorted(names | more))))
    return sorted(dict(found).items(), key=lambda pair: templates.rank(pair[0]))


def _segments(path: str) -> _Segments:
    return tuple(templates.shape(path).split("/")[1:])


def _template(segments: _Segments) -> str:
    """Return a template of a shape, with names of no meaning."""
    names = iter(range(len(segments) * 100))
    return re.sub(
        r"\{(:path)?\}", lambda m: f"{{p{next(names)}{m[1] or ''}}}", "/" + "/".join(segments)
    )


def _groups(known: Iterable[_Segments]) -> Iterable[list[_Segments]]:
    """Divide templates so that those of different groups never overlap."""
    by_first: dict[str, list[_Segments]] = defaultdict(list)
    wild: list[_Segments] = []
    for segments in known:
        if "{" in segments[0]:
            wild.append(segments)
        else:
            by_first[segments[0]].append(segments)
    groups = [[*group, *wild] for group in by_first.values()]
    return [*groups, wild] if wild else groups


def _with_overlaps(group: list[_Segments]) -> list[_Segments]:
    found = dict.fromkeys(group)
    waiting = list(group)
    while waiting and len(found) < len(group) + _OVERLAPS_MAX:
        one = waiting.pop()
        for other in list(found):
            common = _common(one, other)
            if common is not None and common not in found:
                found[common] = None
                waiting.append(common)
    return list(found)


def _common(one: _Segments, other: _Segments) -> _Segments | None:
    """Return the template of the paths that two templates both match; None: there are none."""
    found: list[str] = []
    for at in range(max(len(one), len(other))):
        if at >= len(one) or at >= len(other):
            return None
        a, b = one[at], other[at]
        for segment, rest in ((a, other), (b, one)):
            if segment == _REST and rest[at] and (rest[at:] != ("",)):
                return (*found, *rest[at:])
        common = _common_segment(a, b)
        if common is None:
            return None
        found.append(common)
    return tuple(found)


def _common_segment(one: str, other: str) -> str | None:
    if one == other:
        return one
    for a, b in ((one, other), (other, one)):
        if a == _ANY:
            return b or None
        if _ANY in a and "{" not in b:
            pattern = "[^/?]+".join(map(re.escape, a.split(_ANY)))
            return b if re.fullmatch(pattern, b) else None
    return None  # of two partly open segments nobody knows


__all__ = ["allowed"]
