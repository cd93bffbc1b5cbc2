"""View types: keyed documents with declared indexes."""

import enum
import functools
import operator
import types
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import msgspec

from headwater.errors import DeclarationError, Unstorable, ViewUnreadable
from headwater.messages import Textual, canonical_text
from headwater.messages.characters import check_text
from headwater.messages.hints import alternatives, marks_on
from headwater.messages.indexed_text import BYTES_MAX, bytes_of, is_too_long
from headwater.messages.kinds import kind_of
from headwater.messages.stored_form import StoredForm
from headwater.messages.whole_numbers import is_big


class Key:
    """Marks the field that identifies a document: ``id: Annotated[str, Key]``."""


class Index:
    """Marks a field to find and order by: ``holder: Annotated[str, Index]``."""


class View(msgspec.Struct):
    """Base of read models: a mutable document with one key and any number of indexes.

    Class option: ``view_name``, what its tables are called (default: the class name).
    """

    view_name: ClassVar[str] = ""
    index_bytes_max: ClassVar[int] = BYTES_MAX
    """How long its key and indexed texts may be; two of them fit into an index of any store."""


class ViewType(msgspec.Struct, frozen=True):
    """What is known about one view class.

    Attributes:
        cls: the class.
        name: its name in stores.
        key: the name of its key field.
        indexes: the names of its indexed fields, in order of declaration.
        defaults: whether all fields but the key have defaults, so that an event may start one.
        write: returns a document's JSON, and the document as it is read back from that; raises
            `Unstorable` when that would not be the same.
        decode: returns a document from its JSON; raises `ViewUnreadable` when it does not fit.
        row: the key as text, then the indexed values (text, number, truth value or None).
        fresh: makes the document of a key, if all other fields have defaults.
    """

    cls: Any
    name: str
    key: str
    indexes: tuple[str, ...]
    defaults: bool
    write: Callable[[Any], tuple[bytes, Any]]
    decode: Callable[[bytes | str], Any]
    row: Callable[[Any], tuple[Any, ...]]
    fresh: Callable[[str], Any]

    def key_of(self, view: Any) -> str:
        """Return a document's key as text."""
        return canonical_text(getattr(view, self.key))

    def stored(self, view: Any) -> tuple[tuple[Any, ...], bytes]:
        """Return what is stored of a document: its `row`, and its JSON.

        The row is of the document as it is read back, so that all stores hold the same values.

        Raises:
            Unstorable: it would not come back as the same document, or its key or an indexed text
                is too long to be found again.
        """
        document, back = self.write(view)
        row = self.row(back)
        for text in row:
            if type(text) is str and is_too_long(text, bytes_max=self.cls.index_bytes_max):
                raise self._too_long(row, text)
        return row, document

    def _too_long(self, row: tuple[Any, ...], text: str) -> Unstorable:
        field = (self.key, *self.indexes)[row.index(text)]
        reason = f"which has {bytes_of(text)} bytes, and an index takes {self.cls.index_bytes_max}"
        name = f"view {self.cls.__name__!r}"
        return Unstorable(name=name, field=field, value=f"{text[:50]!r}...", reason=reason)


@functools.cache
def view_type(cls: type[View]) -> ViewType:
    """Return the `ViewType` of a view class.

    Raises:
        DeclarationError: not exactly one field is marked `Key`, it is not text or a whole number,
            an indexed field is not text, a number or a truth value (or None), the names cannot
            be columns side by side, or documents could never be read.
    """
    hints = get_type_hints(cls, include_extras=True)
    keys = [name for name, hint in hints.items() if marks_on(hint, Key)]
    if len(keys) != 1:
        raise DeclarationError(
            subject=cls.__name__,
            reason=f"a view needs one field marked Key, found {keys}: id: Annotated[str, Key]",
        )
    key = keys[0]
    indexes = tuple(n for n, hint in hints.items() if n != key and marks_on(hint, Index))
    form = StoredForm(cls, f"view {cls.__name__!r}")
    _check_columns(cls, hints, key, indexes)
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    return ViewType(
        cls=cls,
        name=_name(cls),
        key=key,
        indexes=indexes,
        defaults=all(not field.required for name, field in fields.items() if name != key),
        write=form.write,
        decode=_decoder(cls, form, fields[key].encode_name),
        row=_row(hints, key, indexes),
        fresh=lambda text: cls(**{key: msgspec.convert(text, hints[key], strict=False)}),
    )


def _name(cls: type[View]) -> str:
    name: str = cls.__dict__.get("view_name") or cls.__name__
    if not name.isidentifier():  # it becomes part of names in SQL
        raise DeclarationError(
            subject=cls.__name__,
            reason=f"view_name is {name!r}: use letters, digits and _, a letter or _ first",
        )
    return name


def index_kinds(cls: type[View]) -> dict[str, set[type]]:
    """Return by indexed field the classes of its values, those of enumerations taken apart."""
    hints = get_type_hints(cls, include_extras=True)
    found: dict[str, set[type]] = {}
    for name in view_type(cls).indexes:
        kinds = found[name] = set()
        for kind in _kinds(hints[name]):
            if issubclass(kind, enum.Enum):
                kinds.update(type(member.value) for member in kind)
            else:
                kinds.add(kind)
    return found


def plain(value: Any) -> Any:
    """Return the value of an enumeration's member, and any other value as it is."""
    return value.value if isinstance(value, enum.Enum) else value


def key_text(key: Textual | None) -> str | None:
    """Return a key as it is stored; None, which is the key of no document, stays None.

    Raises:
        InvalidInput: it has no canonical text.
    """
    if key is None:
        return None
    text = canonical_text(key)
    check_text((text,))
    return text


def key_texts(keys: Sequence[Textual]) -> Sequence[str]:
    """Return keys as they are stored, without None.

    Raises:
        InvalidInput: one has no canonical text.
    """
    if _TEXT.issuperset(map(type, keys)):
        check_text(keys)  # type: ignore[arg-type]  # they are text
        return keys  # type: ignore[return-value]  # they are text
    texts = [canonical_text(key) for key in keys if key is not None]
    check_text(texts)
    return texts


def _decoder(cls: type[View], form: StoredForm, key: str) -> Callable[[bytes | str], Any]:
    read = form.read

    def decode(document: bytes | str) -> Any:
        try:
            return read(document)
        except Exception as error:
            raise ViewUnreadable(
                view=cls.__name__, key=_key_in(document, key), reason=str(error)
            ) from error

    return decode


def _key_in(document: bytes | str, field: str) -> str:
    """Return the key of a document that cannot be read otherwise, if it is one at all."""
    try:
        return str(msgspec.json.decode(document)[field])
    except Exception:  # noqa: BLE001  # it may be anything
        return "?"


def _row(
    hints: dict[str, Any], key: str, indexes: tuple[str, ...]
) -> Callable[[Any], tuple[Any, ...]]:
    kinds = {name: _kinds(hints[name]) for name in (key, *indexes)}
    if not indexes:
        return lambda view: (canonical_text(getattr(view, key)),)
    fetch = operator.attrgetter(key, *indexes)
    if any(issubclass(kind, enum.Enum) for name in indexes for kind in kinds[name]):
        return lambda view: (canonical_text(getattr(view, key)), *map(plain, fetch(view)[1:]))
    if kinds[key] == {str}:
        return fetch

    def row(view: Any) -> tuple[Any, ...]:
        first, *rest = fetch(view)
        return (canonical_text(first), *rest)

    return row


def _check_columns(cls: type, hints: dict[str, Any], key: str, indexes: tuple[str, ...]) -> None:
    columns = ("document", key, *indexes)
    reason = ""
    if not _kinds(hints[key]) <= {str, int}:
        reason = f"the key {key!r} must be str or int, not {hints[key]}"
    elif len({name.casefold() for name in columns}) < len(columns):
        reason = f"{list(columns[1:])} must differ by more than case, and none be 'document'"
    for name in indexes:
        kinds = _kinds(hints[name])
        if not kinds or not all(issubclass(kind, _INDEXABLE) for kind in kinds):
            reason = f"the index {name!r} must be str, int, float or bool, not {hints[name]}"
        elif any(map(is_big, kind_of(hints[name]).types)):
            reason = f"the index {name!r} is a BigInt, and an index holds 64 bits: index an int"
    if reason:
        raise DeclarationError(subject=cls.__name__, reason=reason)


_TEXT = {str}
_INDEXABLE = (str, int, float, types.NoneType, enum.Enum)


def _kinds(hint: Any) -> set[type]:
    """Return the classes that values of a hint have; `object` for one that cannot be told."""
    return set().union(*(_classes(kind) for kind, _ in alternatives(hint)))


def _classes(kind: Any) -> set[type]:
    if get_origin(kind) is Literal:
        return {type(value) for value in get_args(kind)}
    if isinstance(kind, enum.EnumMeta):
        members: list[Any] = list(kind)
        values: set[type] = {type(member.value) for member in members}
        return {kind} if all(issubclass(v, _INDEXABLE) for v in values) else {object}
    return {kind} if isinstance(kind, type) else {object}
