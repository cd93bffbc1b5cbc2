"""Merging, paths and placeholders."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.config.tree import (
    Path,
    dotted,
    flatten,
    leaves,
    lookup,
    mask,
    merge,
    parse_path,
    resolve,
)
from headwater.errors import ConfigurationError

KEYS = st.text("ab.-", min_size=1, max_size=3)
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        st.integers() | st.text("xy", max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=3,
)


def fail(path: Path, reason: str) -> Exception:
    return ConfigurationError(subject=dotted(path), reason=reason)


def resolved(tree: dict[str, Any], **environment: str) -> dict[str, Any]:
    return resolve(tree, environment, fail)


def test_merge() -> None:
    """Sections merge, lists and values replace, and nothing given is changed."""
    low = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    high = {"a": {"y": [3], "z": None}, "b": {"c": 1}}
    assert merge(low, high) == {"a": {"x": 1, "y": [3], "z": None}, "b": {"c": 1}}
    assert low == {"a": {"x": 1, "y": [1, 2]}, "b": 1}


@given(TREES, TREES)
def test_the_stronger_wins(low: dict[str, Any], high: dict[str, Any]) -> None:
    """Whatever the stronger tree says holds in the merged one."""
    merged = merge(low, high)
    for path, value in leaves(high):
        if value not in ({}, []):
            assert lookup(merged, path) == value


@given(TREES)
def test_paths_are_reversible(tree: dict[str, Any]) -> None:
    """Every leaf is found again through its dotted path."""
    for name, value in flatten(tree).items():
        assert lookup(tree, parse_path(name)) == value


def test_flatten() -> None:
    """Lists have indexes, keys with dots have brackets."""
    assert flatten({"a": {"b": [1, {"c": 2}]}, "x.y": 3}) == {
        "a.b[0]": 1,
        "a.b[1].c": 2,
        "[x.y]": 3,
    }


def test_placeholders() -> None:
    """A placeholder is a variable, else a key with its type, else its default."""
    tree = {
        "port": "${PORT:8080}",
        "same": "${limits.max}",
        "section": "${limits}",
        "url": "http://${host}:${PORT:8080}/${limits.flag}",
        "host": "${HOST:${fallback.host:nowhere}}",
        "empty": "${NOTHING:}",
        "literal": r"\${not} a placeholder",
        "limits": {"max": 5, "flag": True},
        "list": ["${limits.max}", "$5", "${list_item:-}"],
    }
    assert resolved(tree, PORT="9") == {
        "port": "9",
        "same": 5,
        "section": {"max": 5, "flag": True},
        "url": "http://nowhere:9/true",
        "host": "nowhere",
        "empty": "",
        "literal": "${not} a placeholder",
        "limits": {"max": 5, "flag": True},
        "list": [5, "$5", "-"],
    }


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"a": {"b": "${c}"}}, r"a\.b: placeholder \$\{c\} is neither a variable nor a key"),
        ({"a": "${b}", "b": "x${a}"}, "go in a circle: a → b → a"),
        ({"a": "${a}"}, "go in a circle: a → a"),
        ({"a": "${b"}, "is not closed"),
        ({"a": "x ${b}", "b": {"c": 1}}, "a section or list cannot stand inside a text"),
    ],
)
def test_bad_placeholders(tree: dict[str, Any], words: str) -> None:
    """What cannot be resolved is refused under its key, with what to do."""
    with pytest.raises(ConfigurationError, match=words):
        resolved(tree)


def test_mask() -> None:
    """Values whose key or section sounds like a secret are hidden."""
    tree = {"db": {"password": "x", "user": "u"}, "tokens": ["a"], "apiKey": "k", "secret": None}
    assert mask(tree) == {
        "db": {"password": "******", "user": "u"},
        "tokens": ["******"],
        "apiKey": "******",
        "secret": None,
    }
