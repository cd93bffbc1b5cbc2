"""One event store into another, and a comparison of the two."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from headwater._sql.postgres.url import Place
from headwater.eventstore import EventStore
from headwater.eventstore.compare import Compared, compare_stores
from headwater.eventstore.copy import Copied, Progress, copy_store
from headwater.operations.stores import open_store


class StoreCopy(msgspec.Struct, frozen=True):
    """What a copy did; ``left`` events have been added to the source meanwhile."""

    copied: Copied
    epoch: str
    left: int


async def copy(source: str, target: str, *, progress: Progress) -> StoreCopy:
    """Copy an event store, by URL, into another one, which is made if it is missing.

    Cancellation: what was copied stays; another call goes on there.

    Raises:
        ConfigurationError: the source does not exist.
        ImportRefused: the target is neither empty nor a beginning of the source.
        StoreUnavailable, StoreCorrupt, SchemaTooNew: one of them cannot be used.
    """
    from headwater.service.engines import open_event_store

    async with contextlib.AsyncExitStack() as resources:
        read = await resources.enter_async_context(open_store(source, subject="--from"))
        written = await open_event_store(target)
        resources.push_async_callback(written.close)
        copied = await copy_store(read, written, progress=progress)
        return StoreCopy(copied, read.epoch, await read.head() - copied.position)


async def compare(source: str, target: str, *, progress: Progress) -> Compared:
    """Compare two event stores, by URL, completely; nothing is changed.

    Raises:
        ConfigurationError: one does not exist.
        StoreUnavailable, StoreCorrupt, SchemaTooNew: one of them cannot be used.
    """
    async with _both(source, target) as (read, other):
        return await compare_stores(read, other, progress=progress)


@contextlib.asynccontextmanager
async def _both(source: str, target: str) -> AsyncIterator[tuple[EventStore, EventStore]]:
    async with (
        open_store(source, subject="--from") as read,
        open_store(target, subject="--to") as other,
    ):
        yield read, other


def store_name(url: str) -> str:
    """Return what a store is called in messages; without a password, the same for the same."""
    scheme, _, path = url.partition(":")
    return f"sqlite:{Path(path).resolve()}" if scheme == "sqlite" else Place.parse(url).name
