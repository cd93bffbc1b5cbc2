"""Which types of events services publish, so that no name on a bus means two things."""

from collections.abc import Iterable, Sequence

import msgspec


class EventType(msgspec.Struct, frozen=True):
    """A type of events that a service publishes.

    Attributes:
        name: its wire name.
        source: the service.
        declared: its class, with the module.
        fields: the JSON schema of each field, by name.
        required: the fields without default.
        bound: whether the class says which service its events are of.
    """

    name: str
    source: str
    declared: str
    fields: dict[str, str]
    required: tuple[str, ...] = ()
    bound: bool = False


def is_other(one: EventType, other: EventType) -> bool:
    """Whether two services mean different things by one name, and nothing tells them apart.

    They mean the same when they use one class, in whatever version, or classes each of which can
    read what the other writes.
    """
    if one.name != other.name or one.source == other.source or one.declared == other.declared:
        return False
    if one.bound and other.bound:
        return False
    common = one.fields.keys() & other.fields.keys()
    needed = {*one.required, *other.required}
    return not needed <= common or any(one.fields[n] != other.fields[n] for n in common)


def clashes(
    types: Iterable[EventType], announced: Sequence[EventType]
) -> list[tuple[EventType, EventType]]:
    """Return each type that is another one than one announced, with that."""
    return [(one, other) for one in types for other in announced if is_other(one, other)]


__all__ = ["EventType", "clashes", "is_other"]
