"""One event store into another, and a comparison of the two."""

import contextlib

import msgspec

from headwater.eventstore.compare import Compared, compare_stores
from headwater.eventstore.copy import Copied, Progress, copy_store
from headwater.operations.stores import open_logs
from headwater.service.engines import EVENT_STORES, open_event_store


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
    async with contextlib.AsyncExitStack() as resources:
        [read] = await resources.enter_async_context(open_logs((source,), subject="--from"))
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
    async with (
        open_logs((source,), subject="--from") as [read],
        open_logs((target,), subject="--to") as [other],
    ):
        return await compare_stores(read, other, progress=progress)


def store_name(url: str) -> str:
    """Return what a store is called in messages; without a password, the same for the same."""
    file = EVENT_STORES.file_of(url)
    return f"sqlite:{file.resolve()}" if file is not None else EVENT_STORES.name_of(url)
