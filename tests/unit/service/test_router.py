"""The router: paths to messages."""

import pytest

from headwater.errors import DeclarationError
from headwater.service.router import Router, allowed


async def _one(*_: object) -> None: ...


async def _other(*_: object) -> None: ...


def _find(router: Router, path: str, raw: bytes | None = None):
    scope = {"path": path} if raw is None else {"path": path, "raw_path": raw}
    return router.find(scope)


@pytest.fixture
def router() -> Router:
    router = Router()
    router.add("GET", "/", _one)
    router.add("GET", "/items", _one)
    router.add("POST", "/items", _other)
    router.add("GET", "/items/{id}", _one)
    router.add("GET", "/items/special", _other)
    router.add("POST", "/items/{id}/sales/{number}", _other)
    router.add("GET", "/files/{rest:path}", None)
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
        ("/files/a", "GET", None, ["a"]),
        ("/files/a/b/c", "GET", None, ["a"]),
    ],
)
def test_match(router, path, method, endpoint, values):
    """A path leads to its route; literal segments go first, and empty ones do not count."""
    match = _find(router, path)
    assert match.entries[method].endpoint is endpoint
    assert match.values == values


@pytest.mark.parametrize(
    "path", ["/nowhere", "/Items", "/items/7/sales", "/items/special/sales/2", "/files", "*"]
)
def test_no_match(router, path):
    """What no route describes is not found, and there is no way back from a literal segment."""
    assert _find(router, path) is None


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
    entries = _find(router, "/items/7").entries
    assert (entries["GET"].parameters, entries["PUT"].parameters) == (("id",), ("key",))
    assert allowed(entries) == "GET, OPTIONS, PUT"


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
