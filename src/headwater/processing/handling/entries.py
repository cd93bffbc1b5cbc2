"""Which handlers take a stored event: by its wire name and, on a bus, by the service it is of."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from headwater.messages import Event, message_type
from headwater.messages.codec import EventCodec
from headwater.processing.sources.source import RawEvent, Source

H = TypeVar("H")


class Entry(msgspec.Struct, Generic[H], frozen=True):
    """What is known of a wire name.

    Attributes:
        handlers: by class, what takes the events that a stored one is, or has become.
        codec: decodes them.
        bound: for each service whose events have a class of their own (``@wire(source=...)``),
            the entry of that class.
        others: whether the events of other services are taken, too.
        direct: for events of the version of today, which stand for themselves: that version, what
            decodes them, and what takes them. Almost all are such.
    """

    handlers: Mapping[type[Event], H]
    codec: EventCodec
    direct: "tuple[int, Callable[[bytes], Event], H] | None" = None
    bound: "dict[str, Entry[H]]" = {}
    others: bool = True


def entries_of(events: Mapping[type[Event], H], source: Source) -> dict[str, Entry[H]]:
    """Return by wire name what takes the events of a source.

    Raises:
        DeclarationError: two classes have the same wire name, and their events cannot be told
            apart.
    """
    codecs: dict[str, EventCodec] = {}
    for event in events:
        owner = (
            "" if source.name else message_type(event).source
        )  # a store has those of one service
        codecs.setdefault(owner, EventCodec()).add(event)
    free: dict[str, Entry[H]] = {}
    bound: dict[str, dict[str, Entry[H]]] = {}
    for owner, codec in codecs.items():
        for name in codec.names:
            direct = codec.direct(name)
            entry = Entry(events, codec, direct and (*direct[:2], events[direct[2]]))
            if owner:
                bound.setdefault(name, {})[owner] = entry
            else:
                free[name] = entry
    entries = dict(free)
    for name, owned in bound.items():
        base = free.get(name) or next(iter(owned.values()))
        entries[name] = Entry(base.handlers, base.codec, base.direct, owned, name in free)
    return entries


def chosen(entry: Entry[H], raw: RawEvent, source: Source) -> Entry[H] | None:
    """Return the entry that an event belongs to by its owner; None: nobody handles it."""
    return entry.bound.get(source.name_of(raw), entry if entry.others else None)
