"""Copying one event store into another, as far as it is, any number of times.

The order makes it resumable without a note of its own: all keys up to the source's head come
first, then the events page by page. So a copy whose head is p has every key of outcomes before p,
wherever it was interrupted, and the next time only later keys are looked at.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

import msgspec

from headwater.errors import ImportRefused
from headwater.eventstore.api import WHOLE, EventStore, ReadableLog, Shard, StoredEvent

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Is told the position reached, and the one to reach."""

PAGE = 2000


class Copied(msgspec.Struct, frozen=True):
    """What a copy did.

    Attributes:
        began: the target's head before.
        position: the target's head after; the source's when it began.
        keys: how many idempotency keys were handed over; some may have been there already.
    """

    began: int
    position: int
    keys: int


async def copy_store(
    source: ReadableLog,
    target: EventStore,
    *,
    page_size: int = PAGE,
    progress: Progress = lambda _position, _head: None,
) -> Copied:
    """Copy events and idempotency keys up to the source's head, behind what the target has.

    The source may be in use meanwhile. Snapshots are left out: they are a cache. The target has
    the source's epoch then, so that consistency tokens and tracking tokens stay valid. Of a shard
    it becomes the same shard, which takes the place of the source. It belongs to the service that
    the source belongs to.

    Cancellation: what was copied stays; another call goes on there.

    Raises:
        ImportRefused: the target is not a beginning of the source, or belongs to another service;
            it was not changed.
        StoreUnavailable: one of the two is away; another call goes on where this one ended.
        DiskFull: the target's disk is full; as above.
    """
    head = await source.head()
    began = await target.head()
    service = await _check_owner(source, target)
    shard = await _check_shard(source, target, began=began)
    await _check_beginning(source, target, began=began, head=head)
    if shard != WHOLE:
        await target.settle_shard(shard)
    if service:
        await target.settle_owner(service)
    keys = await _copy_keys(source, target, since=began, head=head, page_size=page_size)
    progress(began, head)
    position = began
    async with contextlib.aclosing(
        ahead(source.read(after=began, until=head, page_size=page_size))
    ) as pages:
        async for page in pages:
            await target.import_events(page.events, epoch=source.epoch)
            position += len(page.events)
            progress(position, head)
    return Copied(began, position, keys)


async def _check_beginning(
    source: ReadableLog, target: EventStore, *, began: int, head: int
) -> None:
    """Check that the target is a beginning of the source, as its epoch and last event tell."""
    if not began:
        await target.import_events((), epoch=source.epoch)  # refused when there are other keys
        return
    remedy = "copy into an empty store, or into the one that the first part was copied to"
    if target.epoch != source.epoch:
        raise ImportRefused(
            reason=f"the target has {began} events of epoch {target.epoch!r}, expected "
            f"{source.epoch!r} as the source: {remedy}"
        )
    if began > head:
        raise ImportRefused(
            reason=f"the target has {began} events, the source only {head}: the target is in use "
            "already, or source and target are exchanged"
        )
    if await _event_at(target, began) != await _event_at(source, began):
        raise ImportRefused(
            reason=f"the event at position {began}, the target's last, is another one in the "
            f"source: the target was written to; {remedy}"
        )


async def _check_owner(source: ReadableLog, target: EventStore) -> str:
    """Return the service that the source belongs to; the target belongs to no other one."""
    wanted, found = await source.owner(), await target.owner()
    if found and wanted and found != wanted:
        raise ImportRefused(
            reason=f"the target belongs to service {found!r}, the source to {wanted!r}: use a new "
            "database, or the one that the first part was copied to"
        )
    return wanted


async def _check_shard(source: ReadableLog, target: EventStore, *, began: int) -> Shard:
    """Return the shard that the source is, if it is one; the target is nothing else."""
    wanted = await source.shard() or WHOLE
    found = await target.shard()
    if found is None and (wanted == WHOLE or not began):
        return wanted
    if found != wanted:
        raise ImportRefused(
            reason=f"the target is {found or WHOLE}, expected {wanted} as the source: use a new "
            "database, or the one that the first part was copied to"
        )
    return wanted


async def _event_at(store: ReadableLog, position: int) -> StoredEvent | None:
    found: StoredEvent | None = None
    async for page in store.read(after=position - 1, until=position):
        for event in page.events:
            found = event
    return found


async def _copy_keys(
    source: ReadableLog, target: EventStore, *, since: int, head: int, page_size: int
) -> int:
    """Copy the keys of outcomes from ``since`` to ``head``; return how many.

    An append without events has the head as its outcome, so a key may have come later than
    others of the same position; hence the keys at ``since`` are looked at again.
    """
    count = 0
    async with contextlib.aclosing(
        ahead(source.read_keys(since=since, page_size=page_size))
    ) as pages:
        async for page in pages:
            keys = [
                key
                for key in page
                if since < key.outcome.last <= head
                or (key.outcome.last == since and await target.outcome(key.key) is None)
            ]
            if keys:
                await target.import_events((), epoch=source.epoch, keys=keys)
                count += len(keys)
    return count


async def ahead(pages: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """Yield pages; the next is being fetched while the caller works on one."""

    async def fetch() -> T | None:
        return await anext(pages, None)

    task = asyncio.create_task(fetch())
    try:
        while (page := await task) is not None:
            task = asyncio.create_task(fetch())
            yield page
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()
