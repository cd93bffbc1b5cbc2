"""Which handlers take a stored event: by its wire name and, on a bus, by the service it is of."""

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

from headwater.messages import Event, EventCodec, message_type
from headwater.processing.sources import RawEvent, Source

H = TypeVar("H")


class Entry(msgspec.Struct, Generic[H], frozen=True):
    """What is known of a wire name.

    Attributes:
        handlers: what takes its events.
        codec: decodes them.
        bound: for each service whose events have a class of their own (``@wire(source=...)``),
            the entry of that class.
        others: whether the events of other services are taken, too.
    """

    handlers: H
    codec: EventCodec
    bound: "dict[str, Entry[H]]" = {}
    others: bool = True


def entries_of(events: Mapping[type[Event], H], source: Source) -> dict[str, Entry[H]]:
    """Return by wire name what takes the events of a source.

    Raises:
        DeclarationError: two classes have the same wire name, and their events cannot be told
            apart.
    """
    codecs: dict[str, EventCodec] = {}
    free: dict[str, Entry[H]] = {}
    bound: dict[str, dict[str, Entry[H]]] = {}
    for event, handlers in events.items():
        kind = message_type(event)
        owner = "" if source.name else kind.source  # what a store has is all of one service
        codec = codecs.setdefault(owner, EventCodec())
        codec.add(event)
        for name in kind.names:
            entry = Entry(handlers, codec)
            if owner:
                bound.setdefault(name, {})[owner] = entry
            else:
                free[name] = entry
    entries = dict(free)
    for name, owned in bound.items():
        base = free.get(name) or next(iter(owned.values()))
        entries[name] = Entry(base.handlers, base.codec, owned, name in free)
    return entries


def chosen(entry: Entry[H], raw: RawEvent, source: Source) -> Entry[H] | None:
    """Return the entry that an event belongs to by its owner; None: nobody handles it."""
    return entry.bound.get(source.name_of(raw), entry if entry.others else None)
