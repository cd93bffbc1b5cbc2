"""View types: keyed documents with declared indexes."""

import enum
import functools
import operator
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, ClassVar, TypeAlias, get_type_hints

import msgspec

from headwater.errors import DeclarationError, Unstorable, ViewUnreadable
from headwater.messages import Textual, canonical_text
from headwater.messages.characters import check_text
from headwater.messages.hints import alternatives, marks_on
from headwater.messages.indexed_text import BYTES_MAX, bytes_of, is_too_long
from headwater.messages.kinds import kind_of
from headwater.messages.stored_form import StoredForm
from headwater.messages.whole_numbers import is_big
from headwater.views.scalars import TOLD, Scalar, Unfit, classes_of, scalar_of
from headwater.views.sql_tables import SqlTable, form_of
from headwater.views.words import WORDS_MAX, FullText, words_of


class Key:
    """Marks the field that identifies a document: ``id: Annotated[str, Key]``."""


class Index:
    """Marks a field to find and order by: ``holder: Annotated[str, Index]``.

    It holds text, a whole number, a number, a truth value, a date, a datetime, a timedelta, a
    Decimal, a UUID, or the members of an Enum of texts or of whole numbers; or None.
    """


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
        scalars: by indexed field what it holds.
        full_text: the names of the fields that are found by their words.
        defaults: whether all fields but the key have defaults, so that an event may start one.
        write: returns a document's JSON, and the document as it is read back from that; raises
            `Unstorable` when that would not be the same.
        decode: returns a document from its JSON; raises `ViewUnreadable` when it does not fit.
        row: the key as text, then the indexed values in their plain form (see `scalars`), then, if
            there is full text, its words.
        fresh: makes the document of a key, if all other fields have defaults.
    """

    cls: Any
    name: str
    key: str
    indexes: tuple[str, ...]
    scalars: dict[str, Scalar]
    full_text: tuple[str, ...]
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
            Unstorable: it would not come back as the same document, or its key or an indexed value
                could not be found again.
        """
        document, back = self.write(view)
        try:
            row = self.row(back)
        except Unfit:
            raise self._unfit(back) from None
        indexed: Sequence[Any] = row
        if self.full_text:
            *indexed, words = row
            if len(words) > WORDS_MAX:
                raise self._too_many(len(words))
        for text in indexed:
            if type(text) is str and is_too_long(text, bytes_max=self.cls.index_bytes_max):
                raise self._too_long(row, text)
        return row, document

    def _unfit(self, view: Any) -> Unstorable:
        name = f"view {self.cls.__name__!r}"
        for field, scalar in self.scalars.items():
            value = getattr(view, field)
            try:
                _plainly(scalar)(value)
            except Unfit as error:
                return Unstorable(name=name, field=field, value=repr(value)[:80], reason=str(error))
        raise AssertionError(name)  # the row was refused for one of these

    def _too_many(self, length: int) -> Unstorable:
        name, fields = f"view {self.cls.__name__!r}", " and ".join(self.full_text)
        value = f"a text with {length} characters of words"
        reason = f"and at most {WORDS_MAX} can be found again"
        return Unstorable(name=name, field=fields, value=value, reason=reason)

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
            an indexed field does not hold values of one of the types that an index takes, the
            names cannot be columns side by side, or documents could never be read.
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
    full_text = tuple(n for n, hint in hints.items() if marks_on(hint, FullText))
    form = StoredForm(cls, f"view {cls.__name__!r}")
    _check_columns(cls, hints, key, indexes)
    _check_full_text(cls, hints, full_text)
    scalars = {name: found for name in indexes if (found := scalar_of(hints[name]))}
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    return ViewType(
        cls=cls,
        name=_name(cls),
        key=key,
        indexes=indexes,
        scalars=scalars,
        full_text=full_text,
        defaults=all(not field.required for name, field in fields.items() if name != key),
        write=form.write,
        decode=_decoder(cls, form, fields[key].encode_name),
        row=_row(hints, key, scalars, full_text),
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
    hints: dict[str, Any], key: str, scalars: dict[str, Scalar], full_text: tuple[str, ...]
) -> Callable[[Any], tuple[Any, ...]]:
    plain_key = classes_of(hints[key]) == {str}
    fetch = operator.attrgetter(key, *scalars) if scalars else None
    makers = tuple(
        _plainly(scalar) if scalar.plain or _is_enum(hints[name]) else None
        for name, scalar in scalars.items()
    )
    if full_text:
        return _with_words(_row(hints, key, scalars, ()), full_text)
    if fetch is None:
        return lambda view: (canonical_text(getattr(view, key)),)
    if plain_key and not any(makers):
        return fetch

    def row(view: Any) -> tuple[Any, ...]:
        first, *rest = fetch(view)
        made = [make(v) if make else v for make, v in zip(makers, rest, strict=True)]
        return (canonical_text(first), *made)

    return row


def _with_words(
    row: Callable[[Any], tuple[Any, ...]], full_text: tuple[str, ...]
) -> Callable[[Any], tuple[Any, ...]]:
    return lambda view: (*row(view), words_of(getattr(view, name) for name in full_text))


def _plainly(scalar: Scalar) -> Callable[[Any], Any]:
    """Return what makes the plain form of a document's value, which may be a member or None."""
    make = scalar.plain

    def made(value: Any) -> Any:
        value = plain(value)
        return value if value is None or make is None else make(value)

    return made


def _is_enum(hint: Any) -> bool:
    return any(isinstance(kind, enum.EnumMeta) for kind, _ in alternatives(hint))


def _check_columns(cls: type, hints: dict[str, Any], key: str, indexes: tuple[str, ...]) -> None:
    columns = ("document", key, *indexes)
    reason = ""
    if not classes_of(hints[key]) <= {str, int}:
        reason = f"the key {key!r} must be str or int, not {hints[key]}"
    elif len({name.casefold() for name in columns}) < len(columns):
        reason = f"{list(columns[1:])} must differ by more than case, and none be 'document'"
    for name in indexes:
        if scalar_of(hints[name]) is None:
            reason = f"the index {name!r} must be of one type, {TOLD}, or None; not {hints[name]}"
        elif any(map(is_big, kind_of(hints[name]).types)):
            reason = f"the index {name!r} is a BigInt, and an index holds 64 bits: index an int"
    if reason:
        raise DeclarationError(subject=cls.__name__, reason=reason)


def _check_full_text(cls: type, hints: dict[str, Any], full_text: tuple[str, ...]) -> None:
    for name in full_text:
        if not classes_of(hints[name]) <= {str, NoneType}:
            reason = f"the full text {name!r} must be str, or None; not {hints[name]}"
            raise DeclarationError(subject=cls.__name__, reason=reason)


ReadModel: TypeAlias = type[View] | type[SqlTable]
"""What a projection keeps: documents of a view type, or rows of a table of its own."""


def model_name(model: ReadModel) -> str:
    """Return the name of a read model in stores; of those of all kinds each has another."""
    return model.table_name if issubclass(model, SqlTable) else view_type(model).name


def checked_model(model: Any) -> ReadModel:
    """Return a read model, whose declaration is right.

    Raises:
        DeclarationError: it is none, or is declared wrongly.
    """
    if not isinstance(model, type) or not issubclass(model, View | SqlTable):
        reason = "is no read model: name classes derived from View, or from SqlTable"
        raise DeclarationError(subject=repr(model), reason=reason)
    found: ReadModel = model
    model_name(found)
    return found


def model_form(model: ReadModel) -> tuple[str, ...]:
    """Return what is stored about the form of a read model: the key, the indexes, full text."""
    if issubclass(model, SqlTable):
        return form_of(model)
    kind = view_type(model)
    return (kind.key, *kind.indexes, *(f"{name}*" for name in kind.full_text))


_TEXT = {str}
