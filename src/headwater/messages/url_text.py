"""How values are written in a URL: one text for each, from which the same value is read again.

The text is that of JSON, as msgspec writes it, without quotes: an enumeration's member as its
value, a duration as ISO 8601 (``PT1M30S``), bytes as base64, a truth value as ``true`` or
``false``, None as ``null``. Where several types may stand, a text that is exactly how a truth
value or a number is written is one, and any other is the text type among them; ``null`` is None
unless a ``str`` may stand there.
"""

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any, Literal, get_type_hints

import msgspec
from msgspec import inspect

from headwater.errors import DeclarationError

NAMES_IN_PATH = re.compile(r"{([^{}]*)}")
_PARAMETER = re.compile(r"[^\W\d][\w.~-]*")  # also what the gateway takes for one
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,999})")  # as JSON writes them
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TRUTH = {"true": True, "false": False}
_TEXT = (
    inspect.StrType, inspect.AnyType, inspect.BytesType, inspect.ByteArrayType,
    inspect.MemoryViewType, inspect.DateTimeType, inspect.DateType, inspect.TimeType,
    inspect.TimeDeltaType, inspect.UUIDType, inspect.DecimalType,
)  # fmt: skip
_ARRAYS = (
    inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.CollectionType,
    inspect.VarTupleType, inspect.TupleType,
)  # fmt: skip
_SCALARS = (
    *_TEXT, inspect.NoneType, inspect.BoolType, inspect.IntType, inspect.FloatType,
    inspect.EnumType, inspect.LiteralType,
)  # fmt: skip
_SEVERAL = (list, tuple, set, frozenset)


def text_of(value: Any) -> str:
    """Return the text of a value that is no sequence.

    Raises:
        ValueError: it has none.
    """
    if type(value) is str:
        return value
    try:
        plain = msgspec.to_builtins(value)
    except (TypeError, msgspec.MsgspecError) as error:
        raise ValueError(str(error)) from error
    if isinstance(plain, str):
        return str(plain)
    if plain is None:
        return "null"
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, int) or (isinstance(plain, float) and math.isfinite(plain)):
        return msgspec.json.encode(plain).decode()
    msg = f"{value!r} has no text form"
    raise ValueError(msg)


class _Scalar:
    """What a text may be where no sequence may stand: one type (besides None), or several."""

    __slots__ = ("_floats", "_integers", "_null", "_truths", "finite", "single")

    def __init__(self, members: Sequence[inspect.Type]) -> None:
        self._truths = any(isinstance(m, inspect.BoolType) for m in members)
        self._floats = any(isinstance(m, inspect.FloatType) for m in members)
        self._integers: frozenset[int] | None = None  # None: any
        values = [_values(m) for m in members]
        if not any(isinstance(m, inspect.IntType) for m in members):
            self._integers = frozenset(v for of in values for v in of if isinstance(v, int))
        texts = any(
            isinstance(m, _TEXT) or any(isinstance(v, str) for v in of)
            for m, of in zip(members, values, strict=True)
        )
        anything = any(isinstance(m, inspect.StrType | inspect.AnyType) for m in members)
        nothing = any(isinstance(m, inspect.NoneType) or None in _values(m) for m in members)
        self._null = nothing and not anything
        self.single = self._truths + self._floats + (self._integers != frozenset()) + texts < 2
        self.finite = not self._floats

    def choose(self, text: str) -> Any:
        """Return the truth value, number or None that a text is, else the text."""
        if self._truths and text in _TRUTH:
            return _TRUTH[text]
        if self._integers != frozenset() and _INTEGER.fullmatch(text):
            number = int(text)
            if self._integers is None or number in self._integers:
                return number
        if self._floats and _NUMBER.fullmatch(text):
            return float(text)
        return None if self._null and text == "null" else text


class UrlText:
    """The text form of one type, compiled: values to texts, and texts to values.

    A sequence is several texts, and has a form only where ``repeated`` is. ``plain``: it is any
    text, and nothing else.
    """

    __slots__ = ("_finite", "_hint", "_items", "_scalar", "plain")

    def __init__(self, hint: Any, *, repeated: bool) -> None:
        """Compile.

        Raises:
            TypeError: the type has no text form.
        """
        members = _members(inspect.type_info(hint))
        arrays = [m for m in members if repeated and isinstance(m, _ARRAYS)]
        scalars = [m for m in members if m not in arrays]
        items = [_members(item) for array in arrays for item in _items(array)]
        for member in itertools.chain(scalars, *items) if scalars or items else members:
            if not isinstance(member, _SCALARS):
                raise TypeError(_name(member))
        self._hint = hint
        self.plain = len(members) == 1 and members[0] == inspect.StrType()
        self._scalar = _Scalar(scalars) if scalars else None
        self._items = [_Scalar(item) for item in items]
        self._finite = all(s.finite for s in (*self._items, self._scalar) if s)

    def write(self, value: Any) -> list[str]:
        """Return the texts of a value, of which `read` makes the same value.

        Raises:
            ValueError: there are none: it would be read as another value, or refused.
        """
        if self.plain and type(value) is str:
            return [value]
        several = bool(self._items) and isinstance(value, _SEVERAL)
        texts = [text_of(item) for item in (value if several else (value,))]
        if isinstance(value, set | frozenset):
            texts.sort()
        try:
            back = self.read(texts)
        except msgspec.ValidationError as error:
            msg = f"would be refused: {error}"
            raise ValueError(msg) from error
        scalars = self._items if several else [self._scalar]
        single = all(s is not None and s.single for s in scalars)
        if not _same(value, back) and not (single and _converted(value, back, texts)):
            msg = f"would be read as {back!r}"
            raise ValueError(msg)
        return texts

    def read(self, texts: Sequence[str]) -> Any:
        """Return the value of the texts of one name.

        Raises:
            msgspec.ValidationError: they are no value of the type.
        """
        if self._items:
            try:
                return self._read_several(texts)
            except msgspec.ValidationError:
                if len(texts) != 1 or self._scalar is None:
                    raise
        if len(texts) != 1:
            msg = f"Expected one value, got {len(texts)}"
            raise msgspec.ValidationError(msg)
        if self.plain:
            return texts[0]
        assert self._scalar is not None
        if self._scalar.single:
            return self._checked(msgspec.convert(texts[0], self._hint, strict=False))
        return self._checked(msgspec.convert(self._scalar.choose(texts[0]), self._hint))

    def _read_several(self, texts: Sequence[str]) -> Any:
        if all(item.single for item in self._items):
            return self._checked(msgspec.convert(list(texts), self._hint, strict=False))
        of = itertools.chain(self._items, itertools.repeat(self._items[-1]))
        chosen = [item.choose(text) for item, text in zip(of, texts, strict=False)]
        return self._checked(msgspec.convert(chosen, self._hint))

    def _checked(self, value: Any) -> Any:
        """Refuse what JSON cannot hold."""
        if self._finite:
            return value
        for item in value if isinstance(value, _SEVERAL) else (value,):
            if isinstance(item, float) and not math.isfinite(item):
                msg = "Expected a finite number"
                raise msgspec.ValidationError(msg)
        return value


_REMEDIES = {
    "path": "take it out of the path (what a path does not name travels in the body of a command "
    "and in the query string of a query), or let it be of a plain type such as str",
    "query string": "give the query fields of plain types such as str, or lists of them, instead",
}


def url_text(cls: type, name: str, hint: Any, *, place: Literal["path", "query string"]) -> UrlText:
    """Return the text form of a message's field that stands in a URL.

    Raises:
        DeclarationError: its type has none.
    """
    try:
        return UrlText(hint, repeated=place == "query string")
    except TypeError as error:
        reason = (
            f"field {name!r} stands in the {place}, and its type has no text form there "
            f"({error}): {_REMEDIES[place]}"
        )
        raise DeclarationError(subject=cls.__name__, reason=reason) from error


def encoded_path(cls: Any, path: str) -> str:
    """Return a path template with the encoded names of the fields that it names, either way.

    Raises:
        DeclarationError: a name is no field, or two, or its field cannot stand in a path.
    """
    fields = dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError:  # a class declared further down: it is looked at when the service starts
        hints = {}

    def braces(match: re.Match[str]) -> str:
        found = [field for field in fields if match[1] in {field, fields[field]}]
        name = fields[found[0]] if found else ""
        reason = ""
        if not found:
            reason = f"names {[match[1]]}, fields are {list(fields.values())}"
        elif len(found) > 1:
            reason = (
                f"names {match[1]!r}, which is the name of one field in Python and that of another "
                f"over HTTP ({found[0]!r}, {found[1]!r}): rename one of them"
            )
        elif not _PARAMETER.fullmatch(name):
            reason = (
                f"names {match[1]!r}, whose encoded name {name!r} cannot stand in braces: let it "
                "begin with a letter and be of letters, digits and . _ ~ -"
            )
        if reason:
            raise DeclarationError(subject=cls.__name__, reason=f"path {path!r} {reason}")
        if found[0] in hints:
            url_text(cls, name, hints[found[0]], place="path")
        return f"{{{name}}}"

    return NAMES_IN_PATH.sub(braces, path)


def _members(node: inspect.Type) -> list[inspect.Type]:
    """Return the types that may stand in the place of one, without what is told about them."""
    if isinstance(node, inspect.Metadata):
        return _members(node.type)
    if isinstance(node, inspect.UnionType):
        return [member for part in node.types for member in _members(part)]
    return [node]


def _items(array: Any) -> Sequence[inspect.Type]:
    """Return the types of the items: one for all, or one for each of a tuple."""
    return array.item_types if isinstance(array, inspect.TupleType) else (array.item_type,)


def _values(member: inspect.Type) -> Sequence[Any]:
    """Return the values that a literal or an enumeration lists."""
    if isinstance(member, inspect.LiteralType):
        return member.values
    if isinstance(member, inspect.EnumType):
        return [one.value for one in member.cls]
    return ()


def _name(member: inspect.Type) -> str:
    cls = getattr(member, "cls", None)
    return cls.__name__ if cls else type(member).__name__.removesuffix("Type").lower()


def _same(value: Any, back: Any) -> bool:
    try:
        if isinstance(value, _SEVERAL) and isinstance(back, _SEVERAL):
            both_sets = isinstance(value, set | frozenset) or isinstance(back, set | frozenset)
            return set(value) == set(back) if both_sets else list(value) == list(back)
        return bool(value == back)
    except ArithmeticError:  # a signalling NaN
        return False


def _converted(value: Any, back: Any, texts: Sequence[str]) -> bool:
    """Whether a value of a looser type, such as a UUID's text, came back as what it stands for."""
    values = value if isinstance(value, _SEVERAL) else (value,)
    backs = back if isinstance(back, _SEVERAL) else (back,)
    if (values is value) != (backs is back):
        return False
    if any(v is None or isinstance(v, bool) for v in (*values, *backs)):
        return False
    return sorted(map(text_of, backs)) == sorted(texts)
