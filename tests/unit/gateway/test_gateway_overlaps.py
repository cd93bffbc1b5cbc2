"""Which methods a path has, over all templates that match it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.gateway import templates
from headwater.gateway.model import Route
from headwater.gateway.overlaps import allowed

EVERY = "GET HEAD OPTIONS POST PUT"


def allow(path: str, *declared: str) -> str | None:
    """Return what ``Allow`` says at a path: the first entry that matches decides."""
    routes = [
        Route(method=m, path=p, kind="http", service="a", cluster="a.any")
        for m, p in (text.split(" ", 1) for text in declared)
    ]
    for template, methods in allowed(routes):
        if re.fullmatch(templates.pattern(template), path):
            return " ".join(methods)
    return None


@pytest.mark.parametrize(
    ("path", "declared", "expected"),
    [
        ("/a/1", ("GET /a/{id}", "DELETE /a/{key}"), "DELETE GET HEAD OPTIONS"),
        ("/a/top", ("GET /a/{id}", "POST /a/top"), "GET HEAD OPTIONS POST"),
        ("/a/1", ("GET /a/{id}", "POST /a/top"), "GET HEAD OPTIONS"),
        ("/a/b/c", ("GET /a/{x}/c", "POST /a/b/d"), "GET HEAD OPTIONS"),
        ("/a/b/c", ("GET /a/{x}/c", "POST /a/b/{y}"), "GET HEAD OPTIONS POST"),
        ("/a/z/c", ("GET /a/{x}/c", "POST /a/b/{y}"), "GET HEAD OPTIONS"),
        ("/a/b/c", ("GET /{p:path}", "POST /a/b/{y}", "PUT /a/{x}/c"), EVERY),
        ("/a/7.json", ("GET /a/{id}.json", "PUT /a/{id}", "POST /a/7.json"), EVERY),
        ("/a", ("* /a", "GET /a"), None),
        ("/b", ("GET /a",), None),
    ],
)  # fmt: skip
def test_allow_names_the_methods_of_all_templates(path, declared, expected):
    """A path has the methods of all templates that match it, however they overlap."""
    assert allow(path, *declared) == expected


segment = st.sampled_from(["a", "b", "{x}"])
method = st.sampled_from(["GET", "POST", "PUT", "DELETE"])
declared_routes = st.lists(
    st.tuples(method, st.lists(segment, min_size=1, max_size=3)), min_size=1, max_size=6
)


@given(declared_routes, st.lists(st.sampled_from("ab"), min_size=1, max_size=3))
def test_any_overlap(routes, path):
    """For any templates and path, ``Allow`` has exactly the methods of those that match."""
    declared = [
        f"{m} /" + "/".join(s.replace("x", f"x{n}") for n, s in enumerate(parts))
        for m, parts in routes
    ]
    asked = "/" + "/".join(path)
    expected = {
        m
        for m, parts in routes
        if len(parts) == len(path)
        and all(s in (p, "{x}") for s, p in zip(parts, path, strict=True))
    }
    told = allow(asked, *declared)
    if not expected:
        assert told is None
    else:
        assert told is not None
        assert set(told.split()) == expected | {"OPTIONS"} | (
            {"HEAD"} if "GET" in expected else set()
        )
