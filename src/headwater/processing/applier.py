"""What a worker does with events: the interface that projections and sagas fill in."""

from collections.abc import Callable, Sequence

from headwater.errors import Unavailable, UnknownMessage
from headwater.processing.dead_letters import DeadLetter
from headwater.processing.sources import RawEvent, Source, SourcePage
from headwater.views import Segment, View, ViewStore, ViewTransaction


class EventFailed(Exception):
    """A handler raised; carries which event it was. Never leaves this room."""

    def __init__(self, event: RawEvent, cause: Exception) -> None:
        """Blame an event."""
        super().__init__(str(cause))
        self.event = event
        self.cause = cause

    @property
    def transient(self) -> bool:
        """Whether something was merely away, so that trying again will help."""
        return isinstance(self.cause, Unavailable)


class Applier:
    """What a worker does with events. The hooks after `apply` serve runtimes with more to do."""

    name: str = ""
    code: str = ""  # tells programs apart that make other views; empty: they are not told apart
    segments: int = 1
    views: tuple[type[View], ...] = ()
    shared_views: tuple[type[View], ...] = ()
    replayable: bool = True
    isolated: bool = False  # handlers may take long, outside of the transactions: see `outside`
    synced: bool = False  # commits with events must survive the machine, as others hear of them

    def __init__(self, source: Source) -> None:
        """Work for a source; ``wake`` and ``count`` are set by who runs it."""
        self.source = source
        self.wake: Callable[[], None] = lambda: None
        self.count = 1

    @property
    def types(self) -> tuple[str, ...]:
        """The wire names of the events that are handled."""
        raise NotImplementedError

    def wants(self, name: str) -> bool:
        """Whether events of a wire name are handled."""
        raise NotImplementedError

    def divided(self, page: SourcePage) -> SourcePage:
        """Return a page in which an event that belongs to several sequences stands for each."""
        return page

    def segments_of(self, page: SourcePage, count: int) -> Sequence[int]:
        """Return the segment of each event of a page; -1: nobody's."""
        return self.source.segments_of(page, count)

    def sequence_of(self, event: RawEvent) -> str:
        """Return what must be handled in order."""
        return self.source.sequence_of(event)

    async def outside(self, event: RawEvent) -> None:
        """Run those handlers of an event that take no part in the transaction, before it.

        Raises:
            EventFailed: one of them failed.
        """

    async def apply(self, transaction: ViewTransaction, events: Sequence[RawEvent]) -> None:
        """Handle events in order.

        Raises:
            EventFailed: one of them failed; the transaction must be rolled back.
        """
        raise NotImplementedError

    async def retry(self, transaction: ViewTransaction, letter: DeadLetter) -> None:
        """Handle a dead letter again, as the event is read today.

        Raises:
            EventFailed: it failed again, or is not handled any more: to remove it is to drop it.
                The transaction must be rolled back.
        """
        if letter.event is not None:
            if not self.wants(letter.event.type):
                if not letter.handled:
                    return
                raise EventFailed(letter.event, UnknownMessage(name=letter.event.type))
            try:
                await self.apply(transaction, [letter.event])
            except (EventFailed, Unavailable):
                raise
            except Exception as error:
                raise EventFailed(letter.event, error) from error

    async def resized(self, transaction: ViewTransaction, before: int, count: int) -> None:
        """Segments are being split or merged in a transaction: move what belongs to them."""

    async def claimed(self, views: ViewStore, segments: Sequence[Segment]) -> None:
        """Segments were claimed: load what belongs to them."""

    async def refresh(self, views: ViewStore, segments: Sequence[Segment]) -> None:
        """Look now and then for what others have left for these segments."""

    def dropped(self, indices: Sequence[int]) -> None:
        """Segments are not ours any more: forget what belongs to them."""

    def due_s(self) -> float | None:
        """Return in how many seconds there is extra work; None: there is none in sight."""
        return None

    def due_synced(self) -> bool:
        """Whether the commit of the extra work must survive the machine, too."""
        return self.synced

    async def do_due(
        self, transaction: ViewTransaction, indices: Sequence[int], *, synced: bool
    ) -> None:
        """Do the extra work of some segments within their transaction, which is synced or not."""

    def committed(self) -> None:
        """What was done since the last call is durable."""

    def rolled_back(self) -> None:
        """What was done since the last call is undone."""

    async def close(self) -> None:
        """Stop whatever runs beside the transactions."""
