"""The boundary of a decision model: from a command's fields to the tags that events carry."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec

from headwater.errors import DeclarationError, InvalidInput
from headwater.messages import Command, Event, canonical_text, message_type
from headwater.messages.hints import ABSENT, alternatives, fields_of, shape_of
from headwater.messages.tags import FieldTags, tag_reader
from headwater.messages.text import TAKES

Convert = Callable[[Any], Any]


class Boundary:
    """The fields of a decision model that have tags; they take their values from the command.

    Attributes:
        fields: their names.
    """

    def __init__(self, cls: type, events: Iterable[type[Event]]) -> None:
        """Compile the fields of a model that handles some events.

        Raises:
            DeclarationError: a mark stands on what has no canonical text.
        """
        reader = tag_reader(cls)
        self._name = cls.__name__
        self._tags: dict[str, FieldTags] = {} if reader is None else reader.fields
        self._hints = fields_of(cls) or {}
        self.fields = tuple(self._tags)
        self._stored: dict[str, set[str]] = {}  # by tag: the kinds of its values on events
        for event in events:
            of_event = message_type(event).tags
            for tag, kinds in of_event.kinds.items() if of_event is not None else ():
                self._stored.setdefault(tag, set()).update(kinds)
        self._converters: dict[type[Command], dict[str, Convert | None]] = {}

    def values(self, command: Command) -> dict[str, Any]:
        """Return what the fields take from a command."""
        return {field: getattr(command, field) for field in self.fields}

    def tags(self, command: Command) -> tuple[str, ...]:
        """Return the tags of the events that the decision about a command depends on, each once.

        Raises:
            DeclarationError: a field of the command does not fit (see `check`).
            InvalidInput: a value has no canonical text.
        """
        converters = self._converters.get(type(command))
        if converters is None:
            converters = self.check(type(command))
        found: list[str] = []
        for field, tags in self._tags.items():
            value, convert = getattr(command, field), converters[field]
            tags.gather(value if convert is None else convert(value), found)
        return tuple(dict.fromkeys(found))

    def check(self, command: type[Command]) -> dict[str, Convert | None]:
        """Compare a command's fields with the model's, and with the tags of the events.

        Returns for each field how to convert it, if it is text where the events have something
        else; a UUID in capital letters is then found, too.

        Raises:
            DeclarationError: equal values would have different tags.
        """
        hints = fields_of(command) or {}
        found: dict[str, Convert | None] = {}
        for field in self.fields:
            if field not in hints:
                reason = f"takes {command.__name__}.{field}, which does not exist"
                raise DeclarationError(subject=f"{self._name}.{field}", reason=reason)
            reason = self._misfit(field, command.__name__, hints[field])
            if reason:
                reason += ": equal values would have other tags, so declare them alike"
                raise DeclarationError(subject=f"{self._name}.{field}", reason=reason)
            stored: set[str] = set().union(*self._stored_as(field).values())
            is_text = "text" in _kinds(hints[field]) and stored and "text" not in stored
            found[field] = _converter(sorted(stored)) if is_text else None
        self._converters[command] = found
        return found

    def _misfit(self, field: str, command: str, theirs: Any) -> str:
        mine, source = self._hints[field], f"takes {command}.{field}"
        ours, given = shape_of(mine), shape_of(theirs)
        if ours.others:  # the marks are inside
            same = _without_none(mine) == _without_none(theirs)
            return "" if same else f"{source}, which is {theirs!r}, but is {mine!r}"
        if given.others or (given.one and not ours.one) or (given.many and not ours.many):
            return f"{source}, which is {theirs!r}, but is {mine!r}"
        if not _can_equal(_kinds(theirs), _kinds(mine)):
            return f"{source}, a {_or(_kinds(theirs))}, but is a {_or(_kinds(mine))}"
        for tag, kinds in self._stored_as(field).items():
            if not _can_equal(_kinds(theirs), kinds):
                known = f"the tag {tag!r} of its events is a {_or(kinds)}"
                return f"{source}, a {_or(_kinds(theirs))}, but {known}"
        return ""

    def _stored_as(self, field: str) -> dict[str, set[str]]:
        """Return the kinds of values that events have for a field's tags."""
        return {tag: self._stored[tag] for tag in self._tags[field].kinds if tag in self._stored}


def _kinds(hint: Any) -> frozenset[str]:
    shape = shape_of(hint)
    return shape.one | shape.many


def _can_equal(kinds: Collection[str], known: Collection[str]) -> bool:
    """Whether values of each of some kinds can equal one of the known kinds, as text if need be."""
    return "text" in known or all(kind == "text" or kind in known for kind in kinds)


def _converter(kinds: Collection[str]) -> Convert:
    """Return what turns text, also in a collection, into what events have instead."""

    def convert(value: Any) -> Any:
        if isinstance(value, str):
            for kind in kinds:
                try:
                    found: Any = msgspec.convert(value, TAKES[kind], strict=False)
                    canonical_text(found)
                except (msgspec.ValidationError, InvalidInput):
                    continue
                return found
            return value  # which no event can have
        if isinstance(value, list | tuple | set | frozenset):
            return [convert(item) for item in value]
        return value

    return convert


def _without_none(hint: Any) -> list[Any]:
    return [kind for kind, _ in alternatives(hint) if kind not in ABSENT]


def _or(kinds: Collection[str]) -> str:
    return " or ".join(sorted(kinds))
