"""What every backend refuses, in the same words."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from headwater.errors import HeadwaterError, ImportRefused, InvalidInput, PipelineBroken
from headwater.eventstore.api import (
    AHEAD_US_MAX,
    AppendCondition,
    Appended,
    EventFilter,
    FilterItem,
    Idempotency,
    StoredEvent,
    StoredKey,
    StreamWrite,
)
from headwater.messages.characters import check_text
from headwater.messages.idempotency import LENGTH_MAX as KEY_LENGTH_MAX
from headwater.messages.indexed_text import SURELY, check_length
from headwater.messages.whole_numbers import INT_MAX


def check_writes(writes: Sequence[StreamWrite], idempotency: Idempotency | None = None) -> None:
    """Refuse a stream that occurs twice in one append, and names that no index takes.

    Raises:
        InvalidInput: naming the stream, tag, type or key.
    """
    _check_lengths(writes, idempotency)
    if len(writes) < 2:
        return
    seen: set[str] = set()
    for write in writes:
        if write.stream in seen:
            reason = f"stream {write.stream!r} occurs twice in one append: join its events"
            raise InvalidInput(reason=reason)
        seen.add(write.stream)


def _check_lengths(writes: Sequence[StreamWrite], idempotency: Idempotency | None) -> None:
    try:
        for write in writes:
            if len(write.stream) > SURELY:
                check_length((write.stream,), what="stream")
            for event in write.events:
                if len(event.type) > SURELY:
                    check_length((event.type,), what="event type")
                for tag in event.tags:
                    if len(tag) > SURELY:
                        check_length((tag,), what="tag")
        key = "" if idempotency is None else idempotency.key
        if len(key) > KEY_LENGTH_MAX:
            reason = (
                f"idempotency key {key[:50]!r}... has {len(key)} characters, at most "
                f"{KEY_LENGTH_MAX} are taken: shorten it"
            )
            raise InvalidInput(reason=reason)
    except (TypeError, AttributeError):
        return  # what is no text is refused by others


def check_names(
    writes: Sequence[StreamWrite],
    condition: AppendCondition | None,
    idempotency: Idempotency | None,
) -> None:
    """Refuse names that are no text, as databases do by themselves.

    Raises:
        InvalidInput: naming the first of them.
    """
    for write in writes:
        check_text((write.stream,))
        for event in write.events:
            check_text((event.type, *event.tags))
    if condition is not None:
        check_filter(condition.filter)
    if idempotency is not None:
        check_text((idempotency.key, idempotency.fingerprint))


def check_filter(filter: EventFilter) -> None:
    """Refuse a filter by names that are no text.

    Raises:
        InvalidInput: naming the first of them.
    """
    for item in filter.items:
        check_text((*item.types, *item.tags))


def grouped(
    items: Sequence[FilterItem],
) -> list[tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]]:
    """Return the tests of a filter's items: types, and sets of tags of each of which it has one.

    Items of the same types and one tag each, such as for each seat of a booking, are one test.
    """
    single: dict[tuple[str, ...], dict[str, None]] = {}
    others: list[tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]] = []
    for item in items:
        tags = tuple(dict.fromkeys(item.tags))
        if len(tags) == 1:
            single.setdefault(item.types, {})[tags[0]] = None
        else:
            others.append((item.types, tuple((tag,) for tag in tags)))
    return [(types, (tuple(tags),)) for types, tags in single.items()] + others


def check_epoch(epoch: str, *, stored: str, empty: bool) -> None:
    """Refuse to import events of one epoch into a store that has another and is not empty.

    Raises:
        ImportRefused: naming both.
    """
    if epoch != stored and not empty:
        raise ImportRefused(
            reason=f"the store is of epoch {stored!r}, expected {epoch!r}: use an empty store, or "
            "the one that the first part was copied to"
        )


def check_import(
    events: Sequence[StoredEvent], *, head: int, time: int, versions: Mapping[str, int]
) -> None:
    """Refuse events that are not those that come next.

    Args:
        events: to be imported, in order.
        head: the position of the last event stored.
        time: when that was recorded.
        versions: of the events' streams; a stream that is missing has none.

    Raises:
        ImportRefused: naming the first that is wrong.
    """
    present: dict[str, int] = {}
    for event in events:
        head += 1
        if event.position != head:
            raise ImportRefused(
                reason=f"an event has position {event.position}, expected {head}, the next of the "
                "store: read its head and go on from there"
            )
        stream = event.stream
        version = (present[stream] if stream in present else versions.get(stream, 0)) + 1
        if event.version != version:
            raise ImportRefused(
                reason=f"the event at position {head} has version {event.version} of stream "
                f"{stream!r}, expected {version}: check both stores"
            )
        present[stream] = version
        if time - AHEAD_US_MAX <= event.time < time:
            raise ImportRefused(
                reason=f"the event at position {head} was recorded at {event.time}, expected "
                f"{time} or later, as the one before it: check both stores"
            )
        time = event.time


def new_keys(
    keys: Sequence[StoredKey], stored: Mapping[str, tuple[Appended, str]]
) -> list[StoredKey]:
    """Return the keys to be imported that are not stored yet, each once.

    Raises:
        ImportRefused: one is stored with another outcome or fingerprint.
    """
    known = dict(stored)
    new: list[StoredKey] = []
    for each in keys:
        content = (msgspec.structs.replace(each.outcome, duplicate=False), each.fingerprint)
        if each.key not in known:
            known[each.key] = content
            new.append(StoredKey(each.key, content[1], content[0]))
        elif known[each.key] != content:
            raise ImportRefused(
                reason=f"idempotency key {each.key!r} is stored with another outcome "
                f"({known[each.key][0]}): check both stores"
            )
    return new


def check_range(*, after: int, until: int | None, limit: int | None, page_size: int) -> None:
    """Refuse numbers that select nothing sensible.

    Raises:
        InvalidInput: naming the argument.
    """
    least = {"after": (after, 0), "until": (until, 0), "limit": (limit, 0)}
    least["page_size"] = (page_size, 1)
    for name, (actual, expected) in least.items():
        if actual is not None and not expected <= actual <= INT_MAX:
            least_and_most = f"at least {expected} and at most {INT_MAX}"
            raise InvalidInput(reason=f"{name} is {actual}, expected {least_and_most}")


def check_retag(wanted: Mapping[int, Sequence[str]], found: Collection[int]) -> None:
    """Refuse tags for events that are not there, and those that no index takes.

    Raises:
        InvalidInput: naming the first position without an event, or the tag.
    """
    for position, tags in wanted.items():
        check_length(tags, what="tag")
        if position not in found:
            reason = f"there is no event at position {position} that could be given tags"
            raise InvalidInput(reason=reason)


def end_of_prefix(prefix: str) -> str | None:
    """Return the text before which, by code points, all come that begin with a prefix.

    None when there is no such text: all that come from the prefix on.
    """
    rest = prefix.rstrip("\U0010ffff")
    if not rest:
        return None
    following = ord(rest[-1]) + 1
    return rest[:-1] + chr(0xE000 if following == 0xD800 else following)  # no surrogates


def stored_before(key: str) -> PipelineBroken:
    """Return what breaks a pipeline when one of its appends turns out to be a duplicate."""
    return PipelineBroken(cause=f"it was stored before under idempotency key {key!r}")


def broken_by(error: HeadwaterError) -> PipelineBroken:
    """Return the error for appends after the one that broke their pipeline."""
    return PipelineBroken(cause=error.cause if isinstance(error, PipelineBroken) else str(error))
