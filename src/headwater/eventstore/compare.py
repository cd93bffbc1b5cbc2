"""Comparing two event stores completely, page by page."""

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TypeVar

import msgspec

from headwater.eventstore.api import WHOLE, ReadableLog, StoredEvent, StoredKey
from headwater.eventstore.copy import PAGE, Progress, ahead

T = TypeVar("T")

_SHOWN_MAX = 60
_encode = msgspec.msgpack.Encoder().encode


class Compared(msgspec.Struct, frozen=True):
    """What a comparison found.

    Attributes:
        events: how many are the same in both, from the beginning on.
        keys: how many idempotency keys are the same in both; 0 when the events differ.
        digest: BLAKE2b of these events and keys: stores of one digest hold the same.
        difference: the first there is; empty when the stores hold the same.
    """

    events: int
    keys: int
    digest: str
    difference: str = ""


async def compare_stores(
    source: ReadableLog,
    target: ReadableLog,
    *,
    page_size: int = PAGE,
    progress: Progress = lambda _position, _head: None,
) -> Compared:
    """Compare shard, epoch, all events and all idempotency keys; nothing is changed.

    Positions must be dense in both, and as many as the head says. What is stored while this goes
    on is not looked at.

    Raises:
        StoreUnavailable: one of the two is away.
    """
    heads = (await source.head(), await target.head())
    until = min(heads)
    digest = hashlib.blake2b(digest_size=32)
    events = keys = 0
    difference = ""
    shards = [await store.shard() or WHOLE for store in (source, target)]
    if shards[0] != shards[1]:
        difference = f"the source is {shards[0]}, the target {shards[1]}"
    elif source.epoch != target.epoch:
        difference = f"the source is of epoch {source.epoch!r}, the target of {target.epoch!r}"
    else:
        both = (_events(store, until, page_size) for store in (source, target))
        async for left, right in _abreast(*both):
            difference = _differing_events(left, right, events)
            if difference:
                break
            digest.update(b"".join(map(_encode, left)))
            events += len(left)
            progress(events, until)
    difference = difference or _differing_heads(events, until, *heads)
    if not difference:
        keyed = (_keys(store, until, page_size) for store in (source, target))
        async for left_keys, right_keys in _abreast(*keyed):
            difference = _differing_keys(left_keys, right_keys)
            if difference:
                break
            digest.update(b"".join(map(_encode, left_keys)))
            keys += len(left_keys)
    return Compared(events, keys, digest.hexdigest(), difference)


async def _events(
    store: ReadableLog, until: int, page_size: int
) -> AsyncGenerator[tuple[StoredEvent, ...], None]:
    async with contextlib.aclosing(ahead(store.read(until=until, page_size=page_size))) as pages:
        async for page in pages:
            if page.events:
                yield page.events


async def _keys(
    store: ReadableLog, until: int, page_size: int
) -> AsyncGenerator[tuple[StoredKey, ...], None]:
    async with contextlib.aclosing(ahead(store.read_keys(page_size=page_size))) as pages:
        async for page in pages:
            keys = tuple([key for key in page if key.outcome.last <= until])
            if keys:
                yield keys


async def _abreast(
    left: AsyncGenerator[tuple[T, ...], None], right: AsyncGenerator[tuple[T, ...], None]
) -> AsyncIterator[tuple[tuple[T, ...], tuple[T, ...]]]:
    """Yield parts of equal length; at the end the rest of the longer one beside nothing."""
    first: tuple[T, ...] = ()
    second: tuple[T, ...] = ()
    async with contextlib.aclosing(left), contextlib.aclosing(right):
        while True:
            first = first or await _part(left)
            second = second or await _part(right)
            size = min(len(first), len(second))
            if not size:
                if first or second:
                    yield first, second
                return
            yield first[:size], second[:size]
            first, second = first[size:], second[size:]


async def _part(parts: AsyncIterator[tuple[T, ...]]) -> tuple[T, ...]:
    """Return the next part; nothing at the end."""
    async for part in parts:
        return part
    return ()


def _differing_events(
    left: Sequence[StoredEvent], right: Sequence[StoredEvent], position: int
) -> str:
    """Say what differs first; empty when nothing does and positions go on from the one given."""
    dense = list(range(position + 1, position + 1 + len(left)))
    if left == right and [event.position for event in left] == dense:
        return ""
    for number in range(max(len(left), len(right))):
        position += 1
        found = [side[number] if number < len(side) else None for side in (left, right)]
        for name, event in zip(("source", "target"), found, strict=True):
            if event is None or event.position != position:
                return f"the {name} has no event at position {position}"
        if found[0] != found[1]:
            return f"the event at position {position}: {_differing_fields(*found)}"
    return ""


def _differing_heads(events: int, until: int, source: int, target: int) -> str:
    if events != until:
        return f"both stores have {events} events, but their heads are {source} and {target}"
    if source > target:
        return (
            f"the target has {target} events, the source {source}: copy once more, without writers"
        )
    if source < target:
        return f"the source has {source} events, the target {target}: the target is in use"
    return ""


def _differing_keys(left: Sequence[StoredKey], right: Sequence[StoredKey]) -> str:
    if left == right:
        return ""
    for number in range(max(len(left), len(right))):
        ours = left[number] if number < len(left) else None
        theirs = right[number] if number < len(right) else None
        if ours is None or (theirs is not None and theirs.key < ours.key):
            assert theirs is not None
            return f"the source does not have idempotency key {theirs.key!r}"
        if theirs is None or ours.key < theirs.key:
            return f"the target does not have idempotency key {ours.key!r}"
        if ours != theirs:
            return f"idempotency key {ours.key!r}: {_differing_fields(ours, theirs)}"
    return ""


def _differing_fields(left: msgspec.Struct | None, right: msgspec.Struct | None) -> str:
    assert left is not None
    differing = [
        f"{name} is {_short(getattr(left, name))} in the source, "
        f"{_short(getattr(right, name))} in the target"
        for name in left.__struct_fields__
        if getattr(left, name) != getattr(right, name)
    ]
    return "; ".join(differing)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
