"""The JSON schemas of a service's events, as their documents are on disk and on the bus."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import inspect

from headwater.messages import Event
from headwater.messages.inheritance import qualified
from headwater.service.event_names import EventNames
from headwater.service.service import Service

_FORMATS: dict[type, str] = {inspect.DateTimeType: "date-time", inspect.TimeType: "time"}
_KEYS: dict[type, dict[str, str]] = {
    inspect.IntType: {"pattern": "^-?[0-9]+$"},
    inspect.FloatType: {"format": "number"},
    inspect.DecimalType: {"format": "decimal"},
    inspect.UUIDType: {"format": "uuid"},
    inspect.DateType: {"format": "date"},
    inspect.DateTimeType: {"format": "date-time"},
    inspect.TimeType: {"format": "time"},
    inspect.TimeDeltaType: {"format": "duration"},
}
_ITEMS = (
    *(inspect.ListType, inspect.SetType, inspect.FrozenSetType),
    *(inspect.VarTupleType, inspect.CollectionType),
)
_RECORDS = (
    *(inspect.StructType, inspect.DataclassType),
    *(inspect.TypedDictType, inspect.NamedTupleType),
)


def own_events(service: Service) -> list[type[Event]]:
    """Return the events that a service stores and publishes, by name.

    Raises:
        DeclarationError: something about them is declared wrongly.
    """
    return sorted(EventNames(service).own, key=qualified)


def event_schemas(
    events: Sequence[type[Event]], *, template: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the schema of each event, and the components that these refer to.

    Args:
        events: their classes.
        template: how components are referred to, with ``{name}``.

    Source: JSON Schema 2020-12, as msgspec states it; times without a zone have their format, too,
    and the names of a mapping whose keys are no texts say what they are (``propertyNames``).
    """
    schemas, components = msgspec.json.schema_components(
        events, ref_template=template, schema_hook=_own_type
    )
    marker = _Marker(components, template)
    for event, schema in zip(events, schemas, strict=True):
        marker.mark(inspect.type_info(event), schema)
    return list(schemas), components


def _own_type(cls: type) -> dict[str, Any]:
    return {"x-python-type": qualified(cls)}


class _Marker:
    """Adds what msgspec leaves out: formats of times of any zone, or none; kinds of keys."""

    def __init__(self, components: dict[str, Any], template: str) -> None:
        self._components = components
        self._prefix = template.format(name="")
        self._seen: set[str] = set()

    def mark(self, kind: inspect.Type, schema: dict[str, Any]) -> None:
        reference = schema.get("$ref")
        if reference is not None:
            if reference in self._seen:
                return
            self._seen.add(reference)
            schema = self._components[reference.removeprefix(self._prefix)]
        for inner, part in _parts(kind, schema):
            self.mark(inner, part)


def _parts(
    kind: inspect.Type, schema: dict[str, Any]
) -> Iterator[tuple[inspect.Type, dict[str, Any]]]:
    """Yield the types within a type, each with its schema; a time or a mapping is marked itself."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    items, values = schema.get("items"), schema.get("additionalProperties")
    if type(kind) in _FORMATS:
        schema.setdefault("format", _FORMATS[type(kind)])
    elif isinstance(kind, _RECORDS):
        yield from _fields(kind.fields, schema)
    elif isinstance(kind, _ITEMS) and isinstance(items, dict):
        yield kind.item_type, items
    elif isinstance(kind, inspect.TupleType):
        yield from zip(kind.item_types, schema.get("prefixItems", []), strict=False)
    elif isinstance(kind, inspect.DictType):
        if (names := _names(kind.key_type)) is not None:
            schema.setdefault("propertyNames", names)
        if isinstance(values, dict):
            yield kind.value_type, values
    elif isinstance(kind, inspect.UnionType):
        records = [each for each in kind.types if isinstance(each, _RECORDS)]
        others = [each for each in kind.types if not isinstance(each, _RECORDS)]
        yield from zip((*others, *records), _alternatives(schema), strict=False)


def _names(key: inspect.Type) -> dict[str, Any] | None:
    """Return the schema of the names that keys become; None: msgspec has said it."""
    while isinstance(key, inspect.Metadata):
        key = key.type
    if isinstance(key, inspect.EnumType):
        return {"enum": [str(member.value) for member in key.cls]}
    return _KEYS.get(type(key))


def _fields(
    fields: Sequence[Any], schema: dict[str, Any]
) -> Iterator[tuple[inspect.Type, dict[str, Any]]]:
    """Yield the fields of a record, whether it is written as an object or as an array."""
    items = schema.get("prefixItems", [])
    properties = schema.get("properties", {})
    for place, field in enumerate(fields):
        if field.encode_name in properties:
            yield field.type, properties[field.encode_name]
        elif items:
            yield field.type, items[place - len(fields)]


def _alternatives(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the alternatives of a union; those of tagged structs may be a union of their own."""
    for each in schema.get("anyOf", ()):
        if "anyOf" in each:
            yield from _alternatives(each)
        else:
            yield each


__all__ = ["event_schemas", "own_events"]
