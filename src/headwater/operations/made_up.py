"""Documents made up from a JSON schema, to see by decoding them whether a program reads such."""

from collections.abc import Iterator, Mapping
from typing import Any

from headwater.operations.covering import Schema, resolved

_DEPTH_MAX = 6
_TEXTS = {
    "date-time": "2026-11-30T12:00:00Z",
    "date": "2026-11-30",
    "time": "12:00:00",
    "duration": "PT5M",
    "uuid": "8d3e9a4e-4e0c-4c4c-9a7e-0d6f4f1b2c3d",
    "decimal": "12.50",
}


def documents(schema: Schema) -> Iterator[Any]:
    """Yield documents: with what must be there, with everything, and with each alternative once."""
    yield _least(schema, schema, 0)
    whole = _whole(schema, schema, 0)
    yield whole
    inner = resolved(schema, schema)
    for name, part in inner.get("properties", {}).items():
        for value in _alternatives(part, schema):
            yield {**whole, name: value}
    for place, part in enumerate(inner.get("prefixItems", ())):
        for value in _alternatives(part, schema):
            yield [*whole[:place], value, *whole[place + 1 :]]


def _alternatives(part: Schema, root: Schema) -> Iterator[Any]:
    part = resolved(part, root)
    if "enum" in part:
        yield from part["enum"]
    for each in part.get("anyOf", ()):
        yield from _alternatives(each, root)
        yield _whole(each, root, 1)


def _least(schema: Schema, root: Schema, depth: int) -> Any:
    schema = resolved(schema, root)
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        names = schema.get("required", ())
        return {name: _least(properties[name], root, depth + 1) for name in names}
    if schema.get("type") == "array":
        items = schema.get("prefixItems", ())[: schema.get("minItems", 0)]
        return [_least(each, root, depth + 1) for each in items] or _items(schema, root, depth, 0)
    if "anyOf" in schema and depth < _DEPTH_MAX:
        return _least(_simplest(schema), root, depth + 1)
    return _value(schema)


def _whole(schema: Schema, root: Schema, depth: int) -> Any:
    schema = resolved(schema, root)
    if depth > _DEPTH_MAX:
        return _least(schema, root, depth)
    if schema.get("type") == "object":
        made = {n: _whole(s, root, depth + 1) for n, s in schema.get("properties", {}).items()}
        more = schema.get("additionalProperties")
        if isinstance(more, Mapping) and not made and "propertyNames" not in schema:
            made["1"] = _whole(more, root, depth + 1)
        return made
    if schema.get("type") == "array":
        items = schema.get("prefixItems", ())
        return [_whole(each, root, depth + 1) for each in items] or _items(schema, root, depth, 1)
    if "anyOf" in schema:
        return _whole(schema["anyOf"][0], root, depth + 1)
    return _value(schema)


def _items(schema: Schema, root: Schema, depth: int, least: int) -> list[Any]:
    items = schema.get("items", True)
    count = max(schema.get("minItems", 0), least)
    one = _least if not least else _whole
    return [one(items, root, depth + 1) for _ in range(count)] if isinstance(items, Mapping) else []


def _simplest(schema: Schema) -> Schema:
    """Return an alternative of a union that ends."""
    flat = [each for each in schema["anyOf"] if each.get("type") == "null"]
    found: Schema = (flat or schema["anyOf"])[0]
    return found


def _value(schema: Schema) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind in {"integer", "number"}:
        return _number(schema) if kind == "integer" else _number(schema) + 0.5
    if kind == "string":
        text = _TEXTS.get(schema.get("format", ""), "")
        if not text and "contentEncoding" not in schema:
            text = "text"[: schema.get("maxLength", 4)].ljust(schema.get("minLength", 0), "x")
        return text
    return kind == "boolean" or None


def _number(schema: Schema) -> int:
    if "minimum" in schema or "exclusiveMinimum" in schema:
        return int(schema.get("minimum", schema.get("exclusiveMinimum", 0))) + 1
    if "maximum" in schema or "exclusiveMaximum" in schema:
        return int(schema.get("maximum", schema.get("exclusiveMaximum", 0))) - 1
    return 7


__all__ = ["documents"]
