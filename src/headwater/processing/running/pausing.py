"""A processor that is paused: nobody works on it, in any process, until it is resumed."""

from typing import Annotated, ClassVar

from headwater.errors import HeadwaterError
from headwater.processing.handling.dead_letters import LONG_ID_BYTES
from headwater.views import Key, View, ViewStore


class ProcessorPause(View):
    """That a processor is paused, kept beside its progress.

    Attributes:
        processor: its name.
        since: seconds since 1970 UTC, by the clock of the view store.
        by: who paused it.
        reason: why, for people.
    """

    index_bytes_max: ClassVar[int] = LONG_ID_BYTES
    processor: Annotated[str, Key]
    since: float
    by: str = ""
    reason: str = ""

    def told(self, *, now: float) -> str:
        """Return it as a sentence for people, at a time of the view store's clock."""
        by = f" by {self.by}" if self.by else ""
        reason = f" ({self.reason})" if self.reason else ""
        return (
            f"paused for {max(0.0, now - self.since):.0f} s{by}{reason}: "
            f"`headwater processors resume {self.processor}` lets it go on"
        )


async def pause_of(views: ViewStore, processor: str) -> ProcessorPause | None:
    """Return that a processor is paused, if it is.

    Raises:
        ConfigurationError: nobody ensured `ProcessorPause`.
        StoreUnavailable: the view store is away.
    """
    return await views.get(ProcessorPause, processor)


async def known_pause_of(views: ViewStore, processor: str) -> ProcessorPause | None:
    """Return as `pause_of`, as far as that can be found out: for what is only told."""
    try:
        return await pause_of(views, processor)
    except HeadwaterError:
        return None


async def pause(
    views: ViewStore, processor: str, *, by: str = "", reason: str = ""
) -> ProcessorPause:
    """Pause a processor: those who work on it give it back after the batch at hand.

    Nobody claims a segment once this has returned. What is claimed is given back within the time in
    which claims are renewed, so it rests when no segment is held any more. One that is paused
    already stays as it is.

    Raises:
        StoreUnavailable: the view store is away.
    """
    await views.ensure([ProcessorPause])
    found = await pause_of(views, processor)
    if found is None:
        found = ProcessorPause(processor, await views.now(), by, reason)
        async with views.transaction(synced=True) as transaction:
            await transaction.save([found])
    return found


async def resume(views: ViewStore, processor: str) -> bool:
    """Let a processor go on where it is; return whether it was paused.

    Raises:
        StoreUnavailable: the view store is away.
    """
    await views.ensure([ProcessorPause])
    found = await pause_of(views, processor)
    if found is not None:
        async with views.transaction(synced=True) as transaction:
            await transaction.delete(ProcessorPause, [processor])
    return found is not None
