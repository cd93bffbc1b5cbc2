"""Tags: how fields are marked, found out once for a class, and what the marks give for a value."""

import collections.abc
import functools
from collections.abc import Callable
from typing import Any, get_args, get_origin

import msgspec

from headwater.errors import DeclarationError, InvalidInput
from headwater.messages.hints import (
    ABSENT,
    alternatives,
    classes_of,
    fields_of,
    getter_of,
    items_of,
    kinds_of,
)
from headwater.messages.text import HAVE_TEXT, Textual, canonical_text, shown

Gather = Callable[[Any, list[str]], None]


class Tag:
    """Marks a field as a tag: ``email: Annotated[str, Tag("email")]`` gives ``email:a@b.example``.

    Tags on events are stored and indexed; a consistency boundary and a read select by them. The
    mark may stand anywhere in a type: ``Annotated[str, Tag("email")] | None`` gives no tag for
    None, ``Annotated[list[str], Tag("seat")]`` and ``list[Annotated[str, Tag("seat")]]`` give one
    for each item (also of tuples and sets), and marked fields of structs inside count as well.

    Equal values have equal tags. What stands behind the colon is the value's canonical text:

    =====================  =========================================================
    text                   as it is
    numbers                digits without zeros that say nothing: ``7``, ``-0.25``;
                           1, 1.0 and ``Decimal("1.00")`` are ``1``
    truth values           ``true``, ``false``
    enumerations           that of the member's value
    UUIDs                  ``0198c5e0-…`` in lower case
    dates                  ``2024-02-29``
    dates with times       the instant in UTC, ``2024-02-29T12:00:00Z``; without a
                           zone as they are, ``2024-02-29T12:00:00``
    times                  ``12:00:00``; with an offset in UTC, ``12:00:00Z``
    durations              ``PT90S``, in seconds
    bytes                  Base64 (RFC 4648, section 4)
    =====================  =========================================================

    Infinite numbers and those that are none have no text: who stores them as a tag is refused.
    """

    def __init__(self, name: str = "") -> None:
        """Name the tag; without a name it is called like the field."""
        self.name = name

    def of(self, value: Textual) -> str:
        """Return the tag of a value, to read by: ``Tag("email").of("a@b.example")``.

        Raises:
            InvalidInput: the value has no canonical text.
        """
        return f"{self.name}:{canonical_text(value)}"


class FieldTags(msgspec.Struct, frozen=True):
    """The tags in one field.

    Attributes:
        gather: appends those of a value of the field to a list.
        kinds: for each tag the kinds of its values (see `text_kind`).
    """

    gather: Gather
    kinds: dict[str, set[str]]


class TagReader:
    """What gives the tags of values of one class.

    Attributes:
        fields: the fields that have tags in them.
        kinds: for each tag the kinds of its values.
    """

    def __init__(self, cls: Any) -> None:
        """Compile a message or a decision model.

        Raises:
            DeclarationError: a mark stands on what has no canonical text.
        """
        self.fields: dict[str, FieldTags] = {}
        self.kinds: dict[str, set[str]] = {}
        self._leaves: dict[tuple[str, tuple[str, ...]], Gather] = {}
        for field, hint in (fields_of(cls) or {}).items():
            self._records: list[tuple[Any, Gather]] = []
            self._kinds: dict[str, set[str]] = {}
            gather = self._field(cls, field, hint)
            if gather is not None:
                self.fields[field] = FieldTags(gather, self._kinds)
            for tag, kinds in self._kinds.items():
                self.kinds.setdefault(tag, set()).update(kinds)
        plain = {leaf: f"{names[0]}:" for (_, names), leaf in self._leaves.items() if not names[1:]}
        self._steps = [
            (getter_of(cls, field), plain.get(tags.gather, ""), tags.gather)
            for field, tags in self.fields.items()
        ]

    def of(self, value: Any) -> tuple[str, ...]:
        """Return the tags of a value of the class, each once, in order of the fields.

        Raises:
            InvalidInput: something marked in it has no canonical text.
        """
        out: list[str] = []
        for get, prefix, gather in self._steps:
            content = get(value)
            if prefix and type(content) is str:
                out.append(prefix + content)
            else:
                gather(content, out)
        return tuple(dict.fromkeys(out)) if len(out) > 1 else tuple(out)

    def _field(self, kind: Any, field: str, hint: Any) -> Gather | None:
        if not _reaches(hint, []):
            return None
        return self._value(hint, f"{getattr(get_origin(kind) or kind, '__name__', '')}.{field}", ())

    def _value(self, hint: Any, where: str, outer: tuple[str, ...]) -> Gather | None:
        """Return what gives the tags of a value; ``outer`` are those of the marks around it."""
        cases: list[tuple[tuple[type, ...], Gather | None]] = []
        kinds: dict[str, set[str]] = {}  # by tag
        for kind, marks in alternatives(hint):
            if kind in ABSENT:
                continue
            named = (m.name if isinstance(m, Tag) else "" for m in marks if _is_tag(m))
            names = (*outer, *(name or where.rpartition(".")[2] for name in named))
            for name in names:
                kinds.setdefault(name, set()).update(kinds_of(kind))
            cases.append((classes_of(kind), self._one(kind, where, names)))
        for name, found in kinds.items():
            if {"truth value", "number"} <= found:
                reason = (
                    f"the tag {name!r} would be of truth values and numbers, which can be equal "
                    "and have different texts: allow one of them"
                )
                raise DeclarationError(subject=where, reason=reason)
            self._kinds.setdefault(name, set()).update(found)
        return _choice(cases, where)

    def _one(self, kind: Any, where: str, names: tuple[str, ...]) -> Gather | None:
        items = items_of(kind)
        if items is not None:
            return self._collection(kind, items, where, names)
        if kinds_of(kind):
            return self._leaf(where, names) if names else None
        is_record, is_mapping = fields_of(kind) is not None, _is_mapping(kind)
        if names:
            shape = getattr(kind, "__name__", repr(kind))
            inside = f"mark what is inside {shape}" if is_record or is_mapping else ""
            reason = (
                f"the tag {names[0]!r} stands on {shape}, of which no tag can be made: "
                f"{inside or 'declare another type'} ({HAVE_TEXT})"
            )
            raise DeclarationError(subject=where, reason=reason)
        if is_record:
            return self._record(kind)
        return self._mapping(kind, where) if is_mapping else None

    def _leaf(self, where: str, names: tuple[str, ...]) -> Gather:
        """Return what gives the tags of a value that has a text; the same for the same names."""
        found = self._leaves.get((where, names))
        if found is None:
            found = self._leaves[where, names] = _leaf(where, names)
        return found

    def _collection(
        self, kind: Any, items: tuple[Any, ...], where: str, names: tuple[str, ...]
    ) -> Gather | None:
        gathers = [self._value(item, where, names) for item in items]
        if not any(gathers):
            return None
        origin = get_origin(kind) or kind
        unordered = issubclass(origin, collections.abc.Set)
        fixed = len(items) > 1 or (origin is tuple and Ellipsis not in get_args(kind))

        def gather(value: Any, out: list[str]) -> None:
            if value is None or value is msgspec.UNSET:
                return
            if isinstance(value, str | bytes):  # whose items are no items
                raise _misplaced(value, where)
            inner: list[str] = []
            for each, item in zip(gathers if fixed else gathers * len(value), value, strict=False):
                if each is not None:
                    each(item, inner)
            out.extend(sorted(inner) if unordered else inner)

        return gather

    def _mapping(self, kind: Any, where: str) -> Gather | None:
        of_key, of_value = (self._value(hint, where, ()) for hint in get_args(kind) or (Any, Any))
        if of_key is None and of_value is None:
            return None

        def gather(value: Any, out: list[str]) -> None:
            if value is None or value is msgspec.UNSET:
                return
            for key, item in value.items():
                if of_key is not None:
                    of_key(key, out)
                if of_value is not None:
                    of_value(item, out)

        return gather

    def _record(self, kind: Any) -> Gather | None:
        """Return what gives the tags of a record, which may contain others of its kind."""
        for known, gathering in self._records:
            if known == kind:
                return gathering
        pairs: list[tuple[Callable[[Any], Any], Gather]] = []

        def gather(value: Any, out: list[str]) -> None:
            if value is None or value is msgspec.UNSET:
                return
            for get, of in pairs:
                of(get(value), out)

        self._records.append((kind, gather))
        for field, hint in (fields_of(kind) or {}).items():
            of = self._field(kind, field, hint)
            if of is not None:
                pairs.append((getter_of(kind, field), of))
        return gather if pairs else None


@functools.cache
def tag_reader(cls: Any) -> TagReader | None:
    """Return what gives the tags of a class's values; None when it has none.

    Raises:
        DeclarationError: a mark stands on what has no canonical text.
    """
    reader = TagReader(cls)
    return reader if reader.fields else None


def _leaf(where: str, names: tuple[str, ...]) -> Gather:
    prefixes = tuple(f"{name}:" for name in names)

    def gather(value: Any, out: list[str]) -> None:
        if type(value) is str:
            text = value
        elif value is None or value is msgspec.UNSET:
            return
        else:
            try:
                text = canonical_text(value)
            except InvalidInput as error:
                raise _misplaced(value, where) from error
        for prefix in prefixes:
            out.append(prefix + text)  # noqa: PERF401  # nearly always one

    return gather


def _choice(cases: list[tuple[tuple[type, ...], Gather | None]], where: str) -> Gather | None:
    """Return what gives the tags of a value that is of one of these classes, or absent."""
    gathers = dict.fromkeys(gather for _, gather in cases)
    if len(gathers) < 2:
        return next(iter(gathers), None)

    def misfit(value: Any, out: list[str]) -> None:  # noqa: ARG001  # it takes the place of others
        raise _misplaced(value, where)

    def gather(value: Any, out: list[str]) -> None:
        if value is None or value is msgspec.UNSET:
            return
        kind = type(value)
        exact = (of for classes, of in cases if kind in classes)
        as_float = (float,) if isinstance(value, int) else ()  # which Python takes for one
        fitting = (of for classes, of in cases if isinstance(value, classes) or classes == as_float)
        of = next(exact, next(fitting, misfit))
        if of is not None:
            of(value, out)

    return gather


def _misplaced(value: object, where: str) -> InvalidInput:
    reason = (
        f"{where} is {shown(value)}, of which no tag can be made: give a value of the declared "
        "type, and a number that is finite"
    )
    return InvalidInput(reason=reason)


def _reaches(hint: Any, seen: list[Any]) -> bool:
    """Whether there is a tag somewhere in an annotation."""
    for kind, marks in alternatives(hint):
        if any(map(_is_tag, marks)):
            return True
        fields = fields_of(kind)
        inner = get_args(kind) if fields is None else tuple(fields.values())
        if inner and kind not in seen:
            seen.append(kind)
            if any(_reaches(one, seen) for one in inner):
                return True
    return False


def _is_tag(mark: Any) -> bool:
    return mark is Tag or isinstance(mark, Tag)


def _is_mapping(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, collections.abc.Mapping)
