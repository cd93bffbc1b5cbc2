"""One settings file, YAML or TOML, to a tree, with the line of each value. No file is half read."""

import datetime as dt
import math
import re
import tomllib
from pathlib import Path as FilePath
from typing import Any

import msgspec
import yaml

from headwater.config.tree import Path, Tree, dotted, leaves
from headwater.errors import ConfigurationError

SUFFIXES = {".yml": "yaml", ".yaml": "yaml", ".toml": "toml"}
FILE_BYTES_MAX = 1_000_000
VALUES_MAX = 50_000

_LINE = re.compile(r"\(at line (\d+), column \d+\)")
_Pair = tuple[yaml.Node, yaml.Node]

_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"


class Document(msgspec.Struct, frozen=True):
    """The content of one file; ``lines`` has the line of each leaf, by dotted path, if known."""

    tree: Tree
    lines: dict[str, int]


def parse(content: bytes, *, name: str) -> Document:
    """Return the content of a settings file; its kind is that of the name's suffix.

    Plain YAML keys with dots are sections (``a.b: 1`` is ``a: {b: 1}``), quoted ones are not.

    Raises:
        ConfigurationError: names file and line: not UTF-8, a syntax error, a duplicate key, no
            mapping at the top, a value that JSON cannot hold, or too large.
    """
    if len(content) > FILE_BYTES_MAX:
        raise _refuse(name, 0, f"larger than {FILE_BYTES_MAX} bytes: split it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _refuse(name, line, "not UTF-8: save it in that encoding") from error
    if SUFFIXES[FilePath(name).suffix] == "toml":
        return _toml(text, name)
    return _yaml(text, name)


def _toml(text: str, name: str) -> Document:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _LINE.search(str(error))
        reason = _LINE.sub("", str(error)).strip()
        line = int(found[1]) if found else text.count("\n") + 1
        raise _refuse(name, line, f"{reason}: correct the syntax") from error
    plain = {key: _plain(value, name, 0) for key, value in tree.items()}
    return Document(plain, {})


def _yaml(text: str, name: str) -> Document:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None or node.tag == _NULL:
            return Document({}, {})
        if not isinstance(node, yaml.MappingNode):
            kind = "list" if isinstance(node, yaml.SequenceNode) else "single value"
            raise _refuse(name, _line(node), f"the top is a {kind}, expected keys with values")
        builder = _YamlBuilder(loader, name)
        tree = builder.mapping(node, ())
        return Document(
            tree, {dotted(path): builder.lines[path] for path, _ in leaves(tree) if path}
        )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "cannot be read"
        raise _refuse(
            name, mark.line + 1 if mark else 0, f"{reason}: correct the syntax"
        ) from error
    except yaml.YAMLError as error:
        raise _refuse(name, 0, f"{error}: correct the syntax") from error
    except RecursionError as error:
        raise _refuse(name, 0, "nested too deeply: flatten it") from error
    finally:
        loader.dispose()


class _YamlBuilder:
    """Builds values from nodes, because only nodes know their lines and duplicate keys."""

    def __init__(self, loader: yaml.SafeLoader, name: str) -> None:
        self._loader = loader
        self._name = name
        self._inside: set[int] = set()
        self._split: dict[int, tuple[list[_Pair], list[_Pair]]] = {}
        self._values = 0
        self.lines: dict[Path, int] = {}

    def mapping(self, node: yaml.MappingNode, path: Path) -> Tree:
        if id(node) not in self._split:
            self._check_unique(node)
            own = [pair for pair in node.value if pair[0].tag != _MERGE]
            self._loader.flatten_mapping(node)  # puts what << brings in before the own pairs
            self._split[id(node)] = (node.value[: len(node.value) - len(own)], own)
        merged, own = self._split[id(node)]
        tree: Tree = {}
        for key, value in merged:
            tree |= self._pairs([(key, value)], path)
        return tree | self._pairs(own, path)

    def _pairs(self, pairs: list[_Pair], path: Path) -> Tree:
        tree: Tree = {}
        for key_node, value_node in pairs:
            *sections, last = self._steps(key_node)
            place, where = tree, path
            for section in sections:
                place = place.setdefault(section, {})
                where = (*where, section)
                if not isinstance(place, dict):
                    raise self._duplicate(key_node, where)
            where = (*where, last)
            value = self.value(value_node, where)
            self._join(place, {last: value}, key_node, where[:-1])
        return tree

    def value(self, node: yaml.Node, path: Path) -> Any:
        self._values += 1
        if id(node) in self._inside or self._values > VALUES_MAX:
            raise _refuse(self._name, _line(node), "an alias repeats too much: write it out")
        self.lines[path] = _line(node)
        self._inside.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
            value = self._loader.construct_object(node)
            return _plain(value, self._name, _line(node))
        except ValueError as error:  # a date such as 2024-13-45
            raise _refuse(self._name, _line(node), f"{error}: correct or quote it") from error
        finally:
            self._inside.discard(id(node))

    def _steps(self, node: yaml.Node) -> list[str]:
        if not isinstance(node, yaml.ScalarNode):
            raise _refuse(self._name, _line(node), "a key is a list or mapping, expected text")
        text = str(node.value)
        plain = node.style is None and all(text.split("."))
        return text.split(".") if plain else [text]

    def _check_unique(self, node: yaml.MappingNode) -> None:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                first = seen[key.value]
                reason = f"key {key.value!r} is given twice, first in line {first}: remove one"
                raise _refuse(self._name, _line(key), reason)
            seen[key.value] = _line(key)

    def _join(self, tree: Tree, other: Tree, node: yaml.Node, path: Path) -> None:
        for key, value in other.items():
            if key in tree:
                if not (isinstance(tree[key], dict) and isinstance(value, dict)):
                    raise self._duplicate(node, (*path, key))
                self._join(tree[key], value, node, (*path, key))
            else:
                tree[key] = value

    def _duplicate(self, node: yaml.Node, path: Path) -> ConfigurationError:
        return _refuse(self._name, _line(node), f"key {dotted(path)!r} is given twice: remove one")


def _plain(value: Any, name: str, line: int) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item, name, line) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, name, line) for item in value]
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise _refuse(name, line, f"{value} is no finite number: use one, or quote it")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise _refuse(name, line, f"a {type(value).__name__} cannot be served: use text")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _refuse(name: str, line: int, reason: str) -> ConfigurationError:
    return ConfigurationError(subject=f"{name}:{line}" if line else name, reason=reason)


__all__ = ["SUFFIXES", "Document", "parse"]
