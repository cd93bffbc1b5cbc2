"""Whether a program that reads by one JSON schema understands what is written by another.

It is the reading of msgspec that counts: members that a struct does not know are passed over,
unless it forbids them; those that it lacks get their defaults; no type is turned into another.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_NOTES = ("title", "description", "default", "examples", "deprecated", "discriminator", "$comment")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EXACT = ("format", "contentEncoding", "pattern", "propertyNames", "multipleOf")
_KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str, "boolean": bool, "integer": int, "number": (int, float), "null": type(None)
}  # fmt: skip
_DEFS = "#/$defs/"


class Covering:
    """Compares what a reader takes with what a writer gives."""

    def __init__(self, reader: Schema, writer: Schema) -> None:
        """Compare two whole schemas; references are to their own ``$defs``."""
        self._reader, self._writer = reader, writer
        self._assumed: set[tuple[int, int]] = set()

    def faults(self) -> list[str]:
        """Return why the reader does not understand everything; empty: it does."""
        return list(dict.fromkeys(self._faults(self._reader, self._writer, "")))

    def _faults(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        reader, writer = resolved(reader, self._reader), resolved(writer, self._writer)
        pair = (id(reader), id(writer))
        if pair in self._assumed:  # a schema within itself: it is compared already
            return
        self._assumed.add(pair)
        if "anyOf" in writer:
            for each in writer["anyOf"]:
                yield from self._faults(reader, each, path)
        elif "anyOf" in reader:
            yield from self._faults_of_any(reader, writer, path)
        else:
            yield from self._faults_of_one(reader, writer, path)

    def _faults_of_any(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        tried = []
        for each in reader["anyOf"]:
            before = set(self._assumed)
            tried.append(list(self._faults(each, writer, path)))
            if not tried[-1]:
                return
            self._assumed = before  # what was assumed on the way to a fault is not known
        said = f"takes {shown(reader)}, gets {shown(writer)}"
        yield min(tried, key=len)[0] if len(tried) == 1 else f"{_at(path)}{said}"

    def _faults_of_one(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        plain = {name: value for name, value in reader.items() if name not in _NOTES}
        said = f"{_at(path)}takes {shown(reader)}, gets {shown(writer)}"
        if "enum" in writer:
            if not all(_takes(plain, value) for value in writer["enum"]):
                yield said
        elif not plain:
            return
        elif "enum" in plain or not _same_kind(plain, writer):
            yield said
        elif plain.get("type") == "object":
            yield from self._faults_of_object(plain, writer, path)
        elif plain.get("type") == "array":
            yield from self._faults_of_array(plain, writer, path)
        elif not _within(plain, writer):
            yield said

    def _faults_of_object(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        takes, gets = reader.get("properties", {}), writer.get("properties", {})
        rest, more = reader.get("additionalProperties", True), writer.get("additionalProperties")
        always, needed = writer.get("required", ()), reader.get("required", ())
        yield from (
            f"{_within_path(path, name)}: needed, and not always there"
            for name in needed
            if name not in always
        )
        for name, schema in gets.items():
            inner = takes.get(name, rest)
            if isinstance(inner, Mapping):
                yield from self._faults(inner, schema, _within_path(path, name))
            elif inner is False:
                yield f"{_within_path(path, name)}: not taken"
        if isinstance(more, Mapping):
            for name, schema in takes.items():
                if name not in gets:
                    yield from self._faults(schema, more, _within_path(path, name))
            if isinstance(rest, Mapping):
                yield from self._faults(rest, more, _within_path(path, "*"))
        if not _within(reader, writer):
            yield f"{_at(path)}takes {shown(reader)}, gets {shown(writer)}"

    def _faults_of_array(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        takes, gets = reader.get("prefixItems", ()), writer.get("prefixItems", ())
        rest, more = reader.get("items", True), writer.get("items", True)
        if not _within(reader, writer):
            yield f"{_at(path)}takes {shown(reader)}, gets {shown(writer)}"
        for place, schema in enumerate(gets):
            inner = takes[place] if place < len(takes) else rest
            if isinstance(inner, Mapping):
                yield from self._faults(inner, schema, f"{path}[{place}]")
        for place, schema in enumerate(takes):
            if place >= len(gets) and isinstance(more, Mapping):
                yield from self._faults(schema, more, f"{path}[{place}]")
        if isinstance(rest, Mapping) and not gets:
            yield from self._faults(rest, more if isinstance(more, Mapping) else {}, f"{path}[]")


def resolved(schema: Schema, root: Schema) -> Schema:
    """Return what a schema refers to."""
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix(_DEFS)]
    return schema


def shown(schema: Schema) -> str:
    """Return a schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_DEFS)
    if "anyOf" in schema:
        return " or ".join(map(shown, schema["anyOf"]))
    if "enum" in schema:
        return f"one of {', '.join(map(repr, schema['enum']))}"
    bounds = [f"{name} {schema[name]}" for name in (*_LOWER, *_UPPER, "pattern") if name in schema]
    kind = schema.get("format") or schema.get("contentEncoding") or schema.get("type")
    if kind == "array" and isinstance(schema.get("items"), Mapping):
        kind = f"array of {shown(schema['items'])}"
    return ", ".join([str(kind or schema.get("x-python-type") or "anything"), *bounds])


def _at(path: str) -> str:
    return f"{path}: " if path else ""


def _within_path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _same_kind(reader: Schema, writer: Schema) -> bool:
    takes, gets = reader.get("type"), writer.get("type")
    if reader.get("x-python-type") != writer.get("x-python-type"):
        return False
    return takes == gets or (takes == "number" and gets == "integer")


def _takes(reader: Schema, value: Any) -> bool:
    """Whether one value of an enumeration is taken."""
    if not reader:
        return True
    if "enum" in reader:
        return any(value == each and type(value) is type(each) for each in reader["enum"])
    kind = _KINDS.get(reader.get("type", ""))
    of_kind = kind is not None and isinstance(value, kind)
    if isinstance(value, bool) and kind is not bool:
        return False
    return of_kind and set(reader) == {"type"}


def _within(reader: Schema, writer: Schema) -> bool:
    """Whether every limit of the reader is one of the writer, too, or a wider one."""
    for name, value in reader.items():
        if name in _LOWER:
            least = float("-inf") if name.lower().endswith("minimum") else 0
            if writer.get(name, least) < value:
                return False
        elif name in _UPPER:
            if writer.get(name, float("inf")) > value:
                return False
        elif name in _EXACT and writer.get(name) != value:
            return False
    return True


__all__ = ["Covering", "Schema", "resolved", "shown"]
