"""Reading one settings file."""

from typing import Any

import pytest

from headwater.config.files import parse
from headwater.errors import ConfigurationError

_BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{below}'] * 10)}]\n"
    for below, name in zip("abcde", "bcdef", strict=True)
)


def test_yaml_with_lines() -> None:
    """Every value has its line; plain keys with dots are sections, quoted ones are not."""
    content = parse(
        b"a.b: 1\na:\n  c:\n    - x\n    - {d: 2}\n'x.y': 2024-01-02\non: yes\n", name="app.yml"
    )
    assert content.tree == {
        "a": {"b": 1, "c": ["x", {"d": 2}]},
        "x.y": "2024-01-02",
        "on": True,
    }
    assert content.lines == {"a.b": 1, "a.c[0]": 4, "a.c[1].d": 5, "[x.y]": 6, "on": 7}


def test_yaml_merge_keys() -> None:
    """``<<`` brings in a section, whose values own keys may replace."""
    content = parse(
        b"base: &b {x: 1, y: 2}\none:\n  <<: *b\n  y: 3\ntwo:\n  <<: *b\n", name="a.yml"
    )
    assert content.tree["one"] == {"x": 1, "y": 3}
    assert content.tree["two"] == {"x": 1, "y": 2}
    assert content.lines["one.y"] == 4


def test_toml() -> None:
    """TOML gives the same trees."""
    content = parse(b'a.b = 1\nday = 2024-01-02\n"x.y" = [1.5]\n', name="app.toml")
    assert content.tree == {"a": {"b": 1}, "day": "2024-01-02", "x.y": [1.5]}


@pytest.mark.parametrize("text", ["", "# nothing\n", "\ufeff", "---\n"])
def test_empty(text: str) -> None:
    """An empty file is an empty tree."""
    assert parse(text.encode(), name="a.yaml").tree == {}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yml", "a: 1\nb: 2\na: 3\n", r"a.yml:3: key 'a' is given twice, first in line 1"),
        ("a.yml", "a: {b: 1, b: 2}", r"a.yml:1: key 'b' is given twice"),
        ("a.yml", "a.b: 1\na:\n  b: 2\n", r"a.yml:2: key 'a.b' is given twice"),
        ("a.yml", "a: 1\na.b: 2\n", r"a.yml:2: key 'a' is given twice"),
        ("a.yml", "a.b: 1\na: 5\n", r"a.yml:2: key 'a' is given twice"),
        ("a.yml", "- 1\n", r"a.yml:1: the top is a list, expected keys with values"),
        ("a.yml", "hello\n", r"a.yml:1: the top is a single value"),
        ("a.yml", "a: 1\nb: [1\nc: 2\n", r"a.yml:3: .*correct the syntax"),
        ("a.yml", "a: b: c", r"a.yml:1: mapping values are not allowed here"),
        ("a.yml", "\tx: 1", r"a.yml:1: .*correct the syntax"),
        ("a.yml", "a: 1\n---\nb: 2\n", r"a.yml:2: .*another document"),
        ("a.yml", "x: 1\na: &x [*x]", r"a.yml:2: an alias repeats too much"),
        ("a.yml", _BOMB, r"an alias repeats too much"),
        ("a.yml", "a: .inf", r"a.yml:1: inf is no finite number"),
        ("a.yml", "a: !!binary aGVsbG8=", r"a.yml:1: a bytes cannot be served"),
        ("a.yml", "a: !!python/object:os.system x", r"a.yml:1: could not determine"),
        ("a.yml", "a: 2024-13-45", r"a.yml:1: month must be in 1..12"),
        ("a.yml", "? [a]\n: 1", r"a.yml:1: a key is a list or mapping"),
        ("a.yml", "a: " + "[" * 5000, r"a.yml.*: "),
        ("a.toml", "a = 1\na = 2\n", r"a.toml:\d: Cannot overwrite a value"),
        ("a.toml", "ok = 1\na = \n", r"a.toml:2: Invalid value"),
        ("a.toml", "a = nan", r"a.toml: nan is no finite number"),
    ],
)
def test_refused(name: str, text: str, words: str) -> None:
    """A bad file is refused with its name and line, and what is wrong."""
    with pytest.raises(ConfigurationError, match=words):
        parse(text.encode(), name=name)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"a: 1\nb: \xff", "a.yml:2: not UTF-8"), (b"#" * 1_000_001, "larger than 1000000 bytes")],
)
def test_refused_bytes(content: bytes, words: Any) -> None:
    """Content that is no text, or endless, is refused."""
    with pytest.raises(ConfigurationError, match=words):
        parse(content, name="a.yml")
