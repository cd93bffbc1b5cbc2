"""Where each parameter of a declared method goes: path, query string, header or body."""

import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import types
import uuid
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from headwater.client.marks import Body, Header, Query
from headwater.errors import DeclarationError, InvalidInput

_SCALARS = (
    str, int, float, bool, decimal.Decimal, uuid.UUID, enum.Enum, dt.date, dt.time,
    dt.datetime, dt.timedelta,
)  # fmt: skip
_SEQUENCES = (list, tuple, set, frozenset, Sequence, Collection)
Kind = Literal["path", "query", "header", "body"]


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a method: its name there, its place and name on the wire."""

    name: str
    kind: Kind
    wire: str
    default: Any
    raw: bool = False


def read_parameters(
    subject: str, signature: inspect.Signature, hints: dict[str, Any], in_path: Sequence[str]
) -> tuple[Parameter, ...]:
    """Return the parameters after ``self``, each with its place.

    Raises:
        DeclarationError: one is variadic, positional-only, not annotated, annotated with marks
            that mean nothing here, of a type that has no text form, or a second body.
    """
    found: list[Parameter] = []
    for parameter in list(signature.parameters.values())[1:]:
        where = f"{subject}({parameter.name})"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise DeclarationError(subject=where, reason="must be a plain parameter with a name")
        if parameter.name not in hints:
            raise DeclarationError(subject=where, reason="needs a type annotation")
        found.append(_read(where, parameter, hints[parameter.name], in_path))
    missing = [name for name in in_path if name not in {p.name for p in found}]
    if missing:
        names = [p.name for p in found]
        reason = f"the path names {missing}, which are no parameters: they are {names}"
        raise DeclarationError(subject=subject, reason=reason)
    bodies = [p.name for p in found if p.kind == "body"]
    if len(bodies) > 1:
        reason = f"{bodies} would all be the body: put them into one Struct, or mark Query"
        raise DeclarationError(subject=subject, reason=reason)
    return tuple(found)


def _read(
    where: str, parameter: inspect.Parameter, hint: Any, in_path: Collection[str]
) -> Parameter:
    name, default = parameter.name, parameter.default
    kind, marks = _unwrap(hint)
    unknown = [m for m in marks if not isinstance(m, Header | Query | Body | msgspec.Meta)]
    placed = [m for m in marks if isinstance(m, Header | Query | Body)]
    if unknown or len(placed) > 1 or (placed and name in in_path):
        reason = f"{marks} cannot stand here: at most one of Header('name'), Query('name'), Body()"
        if placed and name in in_path:
            reason = f"{placed[0]} contradicts the path, which names the parameter"
        raise DeclarationError(subject=where, reason=reason)
    mark = placed[0] if placed else None
    if isinstance(mark, Body) or (mark is None and name not in in_path and _is_body(kind)):
        return Parameter(name, "body", name, default, raw=_plain(kind) is bytes)
    if isinstance(mark, Header):
        _check_text(where, kind, repeated=False)
        return Parameter(name, "header", mark.name, default)
    if name in in_path:
        _check_text(where, kind, repeated=False)
        return Parameter(name, "path", name, default)
    _check_text(where, kind, repeated=True)
    return Parameter(name, "query", mark.name if mark else name, default)


def _unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    if get_origin(hint) is Annotated:
        kind, *marks = get_args(hint)
        return kind, tuple(marks)
    return hint, ()


def _members(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(_unwrap(member)[0] for member in get_args(kind) if member is not type(None))
    return (kind,)


def _plain(kind: Any) -> Any:
    members = _members(kind)
    return members[0] if len(members) == 1 else None


def _is_body(kind: Any) -> bool:
    return all(_is_record(get_origin(member) or member) for member in _members(kind))


def _is_record(cls: Any) -> bool:
    return isinstance(cls, type) and (
        issubclass(cls, msgspec.Struct) or dataclasses.is_dataclass(cls)
    )


def _check_text(where: str, kind: Any, *, repeated: bool) -> None:
    for member in _members(kind):
        origin = get_origin(member) or member
        if getattr(origin, "__supertype__", None) is not None:  # a NewType
            _check_text(where, origin.__supertype__, repeated=repeated)
        elif origin is Literal or (isinstance(origin, type) and issubclass(origin, _SCALARS)):
            continue
        elif repeated and origin in _SEQUENCES:
            for item in get_args(member):
                if item is not Ellipsis:
                    _check_text(where, _unwrap(item)[0], repeated=False)
        else:
            remedy = "mark it Body() to send it as JSON, or pass a str"
            raise DeclarationError(
                subject=where, reason=f"{member} has no text form for a URL or header: {remedy}"
            )


def text_of(value: Any) -> str:
    """Return a scalar's text for a URL or header: as in JSON, without quotes."""
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return value
    plain = msgspec.to_builtins(value)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return str(plain)


def path_text(name: str, value: Any) -> str:
    """Return the text of a path parameter, not yet encoded.

    Raises:
        InvalidInput: it is None, empty or a dot segment, and would name another resource.
    """
    text = "" if value is None else text_of(value)
    if text in ("", ".", ".."):
        raise InvalidInput(
            reason=f"path parameter {name!r} is {value!r}: give the id it stands for"
        )
    return text


def header_text(name: str, value: Any) -> str:
    """Return the text of a header.

    Raises:
        InvalidInput: it has characters that cannot stand in a header.
    """
    text = text_of(value)
    if not text.isprintable():
        raise InvalidInput(reason=f"header {name!r} has control characters: {text[:100]!r}")
    return text


__all__ = ["Parameter", "header_text", "path_text", "read_parameters", "text_of"]
