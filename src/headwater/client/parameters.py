"""Where each parameter of a declared method goes: path, query string, header or body."""

import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import re
import types
import uuid
from collections.abc import Collection, Iterator, Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    NewType,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from headwater.client.marks import BodyParam, HeaderParam, QueryParam
from headwater.errors import DeclarationError, InvalidInput
from headwater.messages import url_text

Mark = HeaderParam | QueryParam | BodyParam
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110, section 5.6.2
_SCALARS = (
    str, int, float, bool, decimal.Decimal, uuid.UUID, dt.date, dt.time, dt.datetime, dt.timedelta,
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
            that mean nothing here, of a type that has no text form, a second body, or a header
            twice.
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
    headers: dict[str, str] = {}
    for one in found:
        if one.kind == "header":
            other = headers.setdefault(one.wire.lower(), one.name)
            if other != one.name:
                reason = f"{other!r} and {one.name!r} would both be header {one.wire!r}: remove one"
                raise DeclarationError(subject=subject, reason=reason)
    bodies = [p.name for p in found if p.kind == "body"]
    if len(bodies) > 1:
        reason = f"{bodies} would all be the body: put them into one Struct, or mark QueryParam"
        raise DeclarationError(subject=subject, reason=reason)
    return tuple(found)


def _read(
    where: str, parameter: inspect.Parameter, hint: Any, in_path: Collection[str]
) -> Parameter:
    name, default = parameter.name, parameter.default
    kinds, mark = _places(where, hint)
    if mark is not None and name in in_path:
        reason = f"{mark} contradicts the path, which names the parameter"
        raise DeclarationError(subject=where, reason=reason)
    if isinstance(default, Mark):
        reason = f"{default} cannot be a default: write it into the annotation, Annotated[..., ...]"
        raise DeclarationError(subject=where, reason=reason)
    is_body = mark is None and name not in in_path and bool(kinds) and all(map(_is_record, kinds))
    if isinstance(mark, BodyParam) or is_body:
        return Parameter(name, "body", name, default, raw=kinds == [bytes])
    _check_text(where, kinds, repeated=name not in in_path and not isinstance(mark, HeaderParam))
    if isinstance(mark, HeaderParam):
        if not _HEADER.fullmatch(mark.name):
            reason = f"{mark.name!r} is no name of a header: letters, digits and - are"
            raise DeclarationError(subject=where, reason=reason)
        return Parameter(name, "header", mark.name, default)
    if name in in_path:
        return Parameter(name, "path", name, default)
    return Parameter(name, "query", mark.name if mark else name, default)


def _places(where: str, hint: Any) -> tuple[list[Any], Mark | None]:
    """Return the types that may stand in an annotation (but None), and the mark, if any.

    Raises:
        DeclarationError: the marks are not at most one that is understood, or stand where they
            would be passed over: what is marked as a header must not end up in the URL.
    """
    marks: list[Any] = []
    kinds = [kind for kind in _alternatives(hint, marks) if kind is not types.NoneType]
    placed = list({repr(m): m for m in marks if isinstance(m, Mark)}.values())
    unknown = [m for m in marks if not isinstance(m, Mark | msgspec.Meta)]
    if unknown or len(placed) > 1:
        reason = (
            f"{(*placed, *unknown)} cannot stand here: at most one of HeaderParam('name'), "
            "QueryParam('name'), BodyParam()"
        )
        raise DeclarationError(subject=where, reason=reason)
    for kind in kinds:
        if hidden := next(_marks_inside(kind, set()), None):
            reason = (
                f"{hidden} stands inside {inspect.formatannotation(kind)}, where it means "
                "nothing: mark the parameter itself, and pass what it is about as one"
            )
            raise DeclarationError(subject=where, reason=reason)
    return kinds, placed[0] if placed else None


def _alternatives(hint: Any, marks: list[Any]) -> Iterator[Any]:
    """Yield the types that may stand in an annotation; note the marks on the way to them."""
    origin = get_origin(hint)
    if origin is Annotated:
        kind, *found = get_args(hint)
        marks += found
        yield from _alternatives(kind, marks)
    elif origin in (Union, types.UnionType):
        for member in get_args(hint):
            yield from _alternatives(member, marks)
    elif isinstance(hint, NewType):
        yield from _alternatives(hint.__supertype__, marks)
    elif _is_alias(origin):  # type Name[T] = ...
        yield from _alternatives(origin.__value__[get_args(hint)], marks)
    elif _is_alias(hint):  # type Name = ...
        yield from _alternatives(hint.__value__, marks)
    else:
        yield hint


def _is_alias(hint: Any) -> bool:
    return type(hint).__name__ == "TypeAliasType"  # of typing (3.12) or typing_extensions


def _marks_inside(kind: Any, seen: set[Any]) -> Iterator[Any]:
    """Yield the marks that stand further inside a type: on items, arguments and fields."""
    inner = list(get_args(kind)) if get_origin(kind) is not Literal else []
    cls = get_origin(kind) or kind
    if isinstance(cls, type) and cls not in seen:
        seen.add(cls)
        if _is_record(cls) or hasattr(cls, "__required_keys__") or hasattr(cls, "_fields"):
            with contextlib.suppress(NameError):  # then nobody can decode it, either
                inner += get_type_hints(cls, include_extras=True).values()
    for hint in inner:
        marks: list[Any] = []
        for member in _alternatives(hint, marks):
            yield from _marks_inside(member, seen)
        for mark in marks:
            if isinstance(mark, Mark) or mark in get_args(Mark):
                yield mark


def _is_record(kind: Any) -> bool:
    cls = get_origin(kind) or kind
    return isinstance(cls, type) and (
        issubclass(cls, msgspec.Struct) or dataclasses.is_dataclass(cls)
    )


def _check_text(where: str, kinds: Sequence[Any], *, repeated: bool) -> None:
    """Check that values of some types can be written into a URL or header.

    Raises:
        DeclarationError: those of one of them cannot.
    """
    for kind in kinds:
        origin = get_origin(kind) or kind
        if repeated and origin in _SEQUENCES:
            items = [item for item in get_args(kind) if item is not Ellipsis]
            members = [m for item in items for m in _alternatives(item, [])]
            _check_text(where, [m for m in members if m is not types.NoneType], repeated=False)
        elif not _has_text(origin):
            remedy = "mark it BodyParam() to send it as JSON, or pass a str"
            raise DeclarationError(
                subject=where, reason=f"{kind} has no text form for a URL or header: {remedy}"
            )


def _has_text(origin: Any) -> bool:
    if not isinstance(origin, type):
        return origin is Literal
    if issubclass(origin, enum.Enum):
        values = [member.value for member in origin]
        return all(isinstance(value, str | int | float) for value in values)
    return issubclass(origin, _SCALARS)


def text_of(name: str, value: Any) -> str:
    """Return the text of a value for a URL or header: as in JSON, without quotes.

    Raises:
        InvalidInput: it has none.
    """
    try:
        return url_text.text_of(value)
    except ValueError as error:
        raise InvalidInput(reason=f"parameter {name!r} is {value!r}: {error}") from error


def path_text(name: str, value: Any) -> str:
    """Return the text of a path parameter, not yet encoded.

    Raises:
        InvalidInput: it is None, empty or a dot segment, and would name another resource.
    """
    text = "" if value is None else text_of(name, value)
    if text in ("", ".", ".."):
        raise InvalidInput(
            reason=f"path parameter {name!r} is {value!r}: give the id it stands for"
        )
    return text


def header_text(name: str, value: Any) -> str:
    """Return the text of a header.

    Raises:
        InvalidInput: it has characters that cannot stand in a header. The text is not repeated,
            as it may be a credential.
    """
    text = text_of(name, value)
    if not (text.isascii() and text.isprintable()):
        what = "characters beyond ASCII" if text.isprintable() else "control characters"
        reason = f"header {name!r} has {what}, which no header can hold: percent-encode its text"
        raise InvalidInput(reason=reason)
    return text


__all__ = ["Parameter", "header_text", "path_text", "read_parameters", "text_of"]
