"""The router: paths to messages."""

import pytest

from headwater.errors import DeclarationError
from headwater.service.router import Router, allowed


async def _one(*_: object) -> None: ...


async def _other(*_: object) -> None: ...


def _find(router: Router, path: str, raw: bytes | None = None, method: str = "GET"):
    scope = {"path": path, "method": method}
    return router.find(scope if raw is None else {**scope, "raw_path": raw})


@pytest.fixture
def router() -> Router:
    router = Router()
    router.add("GET", "/", _one)
    router.add("GET", "/items", _one)
    router.add("POST", "/items", _other)
    router.add("GET", "/items/{id}", _one)
    router.add("GET", "/items/special", _other)
    router.add("POST", "/items/{id}/sales/{number}", _other)
    router.add("GET", "/files/{rest:path}", _one)
    router.add("GET", "/files/{name}", _other)
    router.add("HEAD", "/files/{name}", _one)
    router.add("DELETE", "/items/{id}/sales", _one)
    router.add("DELETE", "/items/special/{what}", _other)
    router.add("PUT", "/items/{id}/{what}", _other)
    return router


@pytest.mark.parametrize(
    ("path", "method", "endpoint", "values"),
    [
        ("/", "GET", _one, []),
        ("", "GET", _one, []),
        ("/items", "POST", _other, []),
        ("//items/", "GET", _one, []),
        ("/items/7", "GET", _one, ["7"]),
        ("/items//7/", "GET", _one, ["7"]),
        ("/items/special", "GET", _other, []),
        ("/items/7/sales/2", "POST", _other, ["7", "2"]),
        ("/files/a", "GET", _other, ["a"]),
        ("/files/a", "HEAD", _one, ["a"]),
        ("/files/a/b/c", "GET", _one, ["a/b/c"]),
        ("/files/a/b/c", "HEAD", _one, ["a/b/c"]),
        ("/items/special", "HEAD", _other, []),
        ("/items/special/sales/2", "POST", _other, ["special", "2"]),
        ("/items/special/sales", "DELETE", _other, ["sales"]),
        ("/items/7/sales", "DELETE", _one, ["7"]),
        ("/items/special/sales", "PUT", _other, ["special", "sales"]),
    ],
)
def test_match(router, path, method, endpoint, values):
    """The most specific template that matches and has the method decides; HEAD is GET's."""
    match = _find(router, path, method=method)
    assert match.entry.endpoint is endpoint
    assert match.values == values


@pytest.mark.parametrize("path", ["/nowhere", "/Items", "/items/7/8/9/10", "/files", "*"])
def test_no_match(router, path):
    """What no template describes is not found."""
    assert _find(router, path) is None


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/items", "GET, HEAD, OPTIONS, POST"),
        ("/items/7/sales/2", "OPTIONS, POST"),
        ("/items/special/sales", "DELETE, OPTIONS, PUT"),
    ],
)
def test_no_method(router, path, allow):
    """Without the method, those of all templates that match are known."""
    match = _find(router, path, method="PATCH")
    assert match.entry is None
    assert allowed(match.methods) == allow


def test_segments_are_decoded_one_by_one(router):
    """An encoded slash belongs to its segment; an encoded literal is that literal."""
    assert _find(router, "/items/a/b", b"/items/a%2Fb").values == ["a/b"]
    assert _find(router, "/items/ü", b"/%69tems/%C3%BC").values == ["ü"]
    assert _find(router, "/items/%zz", b"/items/%zz").values == ["%zz"]
    assert _find(router, "/items/a/sales/1", b"/items/a%2fsales%2f1").values == ["a/sales/1"]


def test_names_belong_to_the_method():
    """Two methods of one path may name its parameters differently."""
    router = Router()
    router.add("GET", "/items/{id}", _one)
    router.add("PUT", "/items/{key}", _other)
    assert _find(router, "/items/7").entry.parameters == ("id",)
    assert _find(router, "/items/7", method="PUT").entry.parameters == ("key",)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("/items", "declared twice"),
        ("/items/{other}", "declared twice"),
        ("/a/{x}/b/{x}", "each name once"),
        ("/a/{x}.json", "must be"),
        ("/a/v{x}", "must be literal"),
    ],
)
def test_wrong_route(router, template, words):
    """A route that is taken, or that cannot be matched, is refused when it is added."""
    with pytest.raises(DeclarationError, match=words):
        router.add("GET", template, _one)
