"""What a worker does with events: the interface that projections and sagas fill in."""

import time
from collections.abc import Callable, Container, Sequence

import msgspec

from headwater.errors import Unavailable, UnknownMessage
from headwater.modelling.policies import Retry, Start
from headwater.processing.handling.dead_letters import DeadLetter
from headwater.processing.handling.failures import is_of_callee
from headwater.processing.sources.source import EventId, RawEvent, Source, SourcePage, event_id
from headwater.views import ReadModel, Segment, View, ViewStore, ViewTransaction


class EventFailed(Exception):
    """A handler raised; carries which event it was. Never leaves this room."""

    def __init__(self, event: RawEvent, cause: BaseException) -> None:
        """Blame an event."""
        super().__init__(str(cause))
        self.event = event
        self.cause = cause


def failed(event: RawEvent, error: BaseException) -> EventFailed:
    """Return who is to blame for an error of a handler: its event.

    Raises:
        BaseException: the error, if it is the end of this very task.
    """
    if not is_of_callee(error):
        raise error
    return EventFailed(event, error)


class Busy(msgspec.Struct, frozen=True):
    """A handler that is at work on an event, ``since`` a moment of the monotonic clock."""

    handler: str
    type: str
    stream: str
    position: int
    since: float


class Outbox(msgspec.Struct, frozen=True):
    """Commands that wait to be sent or acknowledged.

    ``since`` is when the oldest was decided, seconds since 1970 UTC, and ``reason`` why it is still
    here, empty when it was not tried often yet.
    """

    commands: int = 0
    since: float = 0.0
    reason: str = ""


class Applier:
    """What a worker does with events. The hooks after `apply` serve runtimes with more to do."""

    name: str = ""
    code: str = ""  # tells programs apart that make other views; empty: they are not told apart
    segments: int = 1
    views: tuple[ReadModel, ...] = ()
    shared_views: tuple[type[View], ...] = ()
    replayable: bool = True
    tells_replays: bool = False  # some handler wants to know whether an event is replayed
    start: Start = ""  # where it begins; empty: nothing was said
    policy: Retry | None = None  # how often events are tried; None: as the settings say
    isolated: bool = False  # handlers may take long, outside of the transactions: see `outside`
    synced: bool = False  # commits with events must survive the machine, as others hear of them

    remedy: str = ""  # what helps when its log was cut or replaced; empty: as for all

    def __init__(self, source: Source) -> None:
        """Work for a source; ``wake``, ``clock`` and ``count`` are set by who runs it.

        ``busy`` are the handlers that may take long and are at work.
        """
        self.source = source
        self.clock: Callable[[], float] = time.time  # noqa: TID251  # of the view store, once that was asked; seconds since 1970 UTC
        self.wake: Callable[[], None] = lambda: None
        self.busy: dict[object, Busy] = {}
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

    def segment_of(self, event: RawEvent, sequence: str, count: int) -> int:  # noqa: ARG002
        """Return the segment of an event that was parked with a sequence."""
        return self.source.segment_of(event, count)

    async def outside(self, event: RawEvent, *, replaying: bool = False) -> None:
        """Run those handlers of an event that take no part in the transaction, before it.

        Raises:
            EventFailed: one of them failed.
        """

    async def apply(
        self,
        transaction: ViewTransaction,
        events: Sequence[RawEvent],
        *,
        replayed: Container[EventId] = (),
    ) -> None:
        """Handle events in order; ``replayed`` are those of them that are handled once more.

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
                replayed = {event_id(letter.event)} if letter.replaying else ()
                await self.apply(transaction, [letter.event], replayed=replayed)
            except (EventFailed, Unavailable):
                raise
            except Exception as error:
                raise EventFailed(letter.event, error) from error

    async def ask(self) -> None:
        """Return if what it works with can be reached, beside the view store.

        Raises:
            Unavailable: something is away.
        """
        await self.source.head()

    async def outbox(self, views: ViewStore, count: int) -> Outbox:  # noqa: ARG002
        """Return what is still to be sent of ``count`` segments."""
        return Outbox()

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


class Unhandled(Applier):
    """Handles nothing: of a processor that has letters, say, and that nobody declares any more."""

    def __init__(self, source: Source, name: str) -> None:
        """Handle nothing, under a name."""
        super().__init__(source)
        self.name = name

    @property
    def types(self) -> tuple[str, ...]:
        """See `Applier.types`."""
        return ()

    def wants(self, name: str) -> bool:  # noqa: ARG002
        """See `Applier.wants`."""
        return False
