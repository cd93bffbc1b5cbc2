"""Envoy's protocol messages: as many of their fields as the gateway uses.

``wire.json`` names the fields by message: their numbers and types are those of Envoy's public API,
version 3. The messages are made of it, so that neither generated code nor all of that API needs to
be installed.
"""

import hashlib
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import msgspec
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    json_format,
    message_factory,
    struct_pb2,
    wrappers_pb2,
)
from google.protobuf.message import Message

CLUSTERS = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
VIRTUAL_HOST = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
ROUTE = "type.googleapis.com/envoy.config.route.v3.Route"
VIRTUAL_HOSTS_FIELD, ROUTES_FIELD, LOAD_ASSIGNMENT_FIELD = 2, 3, 33

_KNOWN = (any_pb2, duration_pb2, struct_pb2, wrappers_pb2)
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS: dict[str, Any] = {
    "bool": _Field.TYPE_BOOL,
    "double": _Field.TYPE_DOUBLE,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
}


class Resource(msgspec.Struct, frozen=True):
    """Something that Envoy is told, encoded; its version is the digest of its content."""

    version: str
    body: bytes


def resource(*parts: bytes) -> Resource:
    """Return what parts make together: messages of one type merge when they follow one another."""
    body = b"".join(parts)
    return Resource(hashlib.blake2b(body, digest_size=8).hexdigest(), body)


def encode(url: str, document: dict[str, Any]) -> bytes:
    """Encode a document of a type, which is named by its URL."""
    made = message(url.rpartition("/")[2])
    json_format.ParseDict(document, made, descriptor_pool=_pool)
    body: bytes = made.SerializeToString(deterministic=True)
    return body


def field(number: int, *parts: bytes) -> bytes:
    """Return a field of a message that holds a message, encoded in parts."""
    size = sum(map(len, parts))
    return b"".join((_varint(number << 3 | 2), _varint(size), *parts))


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))


def response(kind: str, bodies: Iterable[bytes]) -> bytes:
    """Return a file of resources of one type, as Envoy reads it."""
    made = message("envoy.service.discovery.v3.DiscoveryResponse")
    for body in bodies:
        made.resources.add(type_url=kind, value=body)
    content: bytes = made.SerializeToString()
    return content


def message(name: str) -> Any:
    """Return a new, empty message."""
    return kind(name)()


def kind(name: str) -> type[Message]:
    """Return the class of a message."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(name))


def _make_pool() -> descriptor_pool.DescriptorPool:
    table = msgspec.json.decode(files("headwater.gateway").joinpath("wire.json").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    # Presence is kept, as proto2 has it: a value that equals the default is sent, too.
    file = descriptor_pb2.FileDescriptorProto(name="headwater/envoy.proto", syntax="proto2")
    for module in _KNOWN:
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        file.dependency.append(module.DESCRIPTOR.name)
    enums = {name for name, entry in table.items() if "values" in entry}
    homes: dict[str, Any] = {"": file}  # packages are messages here, so that one file holds all
    for name, entry in sorted(table.items()):
        if name in enums:
            home, own = _home(homes, name.rpartition(".")[0]), name.rpartition(".")[2]
            made = home.enum_type.add(name=own)
            for value, number in entry["values"].items():
                made.value.add(name=value, number=number)
            continue
        made = _home(homes, name)
        for field, (number, of) in entry.items():
            _add_field(made, name, (field, number, of), enums)
    pool.Add(file)
    return pool


def _home(homes: dict[str, Any], name: str) -> Any:
    """Return the message of a full name, made within that of its prefix if need be."""
    if name not in homes:
        prefix, _, own = name.rpartition(".")
        outer = _home(homes, prefix)
        nested = outer.nested_type if prefix else outer.message_type
        homes[name] = nested.add(name=own)
    return homes[name]


def _add_field(made: Any, name: str, field: tuple[str, int, str], enums: set[str]) -> None:
    own, number, of = field
    form, _, of = of.rpartition(" ")
    if form == "map":
        entry = "".join(part.capitalize() for part in own.split("_")) + "Entry"
        nested = made.nested_type.add(name=entry)
        nested.options.map_entry = True
        _add_field(nested, "", ("key", 1, "string"), enums)
        _add_field(nested, "", ("value", 2, of), enums)
        of = f"{name}.{entry}"
    found = made.field.add(name=own, number=number)
    found.label = _Field.LABEL_REPEATED if form else _Field.LABEL_OPTIONAL
    if of in _SCALARS:
        found.type = _SCALARS[of]
    else:
        found.type = _Field.TYPE_ENUM if of in enums else _Field.TYPE_MESSAGE
        found.type_name = f".{of}"


_pool = _make_pool()
