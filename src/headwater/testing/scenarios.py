"""Given/when/then for sagas and projections: no store, no clock, no processor."""

from collections import Counter
from datetime import timedelta
from typing import Any, Generic, Self, TypeVar

from headwater.errors import HeadwaterError
from headwater.eventbus import BusEvent
from headwater.eventbus.memory import MemoryEventBus
from headwater.eventstore import NewEvent
from headwater.eventstore.memory import MemoryEventStore
from headwater.messages import Command, Event, message_type, new_metadata, now_us
from headwater.modelling import Deadline, Effect, EventHandlers, Projection, Saga
from headwater.modelling.saga import Cancel, End, SagaType, effects_of, saga_type
from headwater.processing import BusSource, Source, StoreSource
from headwater.processing.handling.applier import EventFailed
from headwater.processing.running.projector import ProjectionApplier
from headwater.processing.sagas.steps import refusal_step
from headwater.views import View, view_type
from headwater.views.memory import MemoryViewStore

S = TypeVar("S", bound=Saga)

_SERVICE = "test"


class SagaScenario(Generic[S]):
    """One saga, driven by hand. What happens last collects the effects that `then` compares.

    Attributes:
        state: the saga; None until an event has begun it.
    """

    def __init__(self, cls: type[S], id: str = "") -> None:
        """Begin without a saga; use `headwater.testing.given`."""
        self._kind: SagaType = saga_type(cls)
        self._id = id
        self._effects: tuple[Effect, ...] = ()
        self._ended = False
        self._now = timedelta()
        self._due: dict[str, timedelta] = {}
        self.state: S | None = None

    def and_given(self, *events: Event) -> Self:
        """Let these events have happened; their effects are not compared."""
        for event in events:
            self.when(event)
        self._effects = ()
        return self

    def when(self, event: Event) -> Self:
        """Let an event happen. One without handler, key or saga has no effects."""
        self._effects = ()
        handler = self._kind.event_handler(type(event))
        keys = handler.keys(event) if handler is not None else ()
        if handler is None or not keys:
            return self
        if self.state is None or self._ended:
            if not handler.starts:
                return self
            assert self._id or len(keys) == 1, f"say for which of {keys} it is: given(..., id=)"
            self.state, self._ended = self._kind.cls(id=self._id or keys[0]), False
        assert self.state is not None
        assert self.state.id in keys, f"the saga is {self.state.id!r}, the event is for {keys}"
        self._take(handler.function(self.state, event))
        return self

    def when_refused(self, command: Command, error: HeadwaterError) -> Self:
        """Let a command of the saga be refused."""
        found = refusal_step(self._kind, command, error)
        assert found is not None, f"no @rejection_handler takes {error!r} of {command!r}"
        function, wanted = found
        self._effects = ()
        self._take(function(self.state, command, wanted))
        return self

    def after(self, duration: timedelta) -> Self:
        """Let time pass, and with it the deadlines that are due by then, each at its time."""
        self._effects = ()
        until = self._now + duration
        while due := [(at, name) for name, at in self._due.items() if at <= until]:
            self._now, name = min(due)
            del self._due[name]
            self._take(self._kind.deadlines[name](self.state))
        self._now = until
        return self

    def then(self, *effects: Effect) -> Self:
        """Compare the effects, in order.

        Raises:
            AssertionError: they differ.
        """
        assert self._effects == effects, f"expected {effects!r}, got {self._effects!r}"
        return self

    def then_commands(self, *commands: Command) -> Self:
        """Compare only the commands among the effects, in order.

        Raises:
            AssertionError: they differ.
        """
        got = tuple(e for e in self._effects if not isinstance(e, Deadline | Cancel | End))
        assert got == commands, f"expected {commands!r}, got {got!r}"
        return self

    def then_ended(self) -> Self:
        """Check that the saga is over.

        Raises:
            AssertionError: it goes on.
        """
        assert self._ended, f"the saga goes on: {self.state!r}"
        return self

    def _take(self, returned: Any) -> None:
        effects = effects_of(self._kind, returned)
        self._effects += effects
        for effect in effects:
            match effect:
                case Deadline():
                    self._due[effect.name] = self._now + effect.after
                case Cancel():
                    self._due.pop(effect.name, None)
                case End():
                    self._ended = True
        if self._ended:
            self._due.clear()


class ProjectionScenario:
    """A projection over events in memory."""

    def __init__(self, handlers: EventHandlers | type[EventHandlers]) -> None:
        """Begin without events; use `headwater.testing.given`."""
        self._handlers = handlers() if isinstance(handlers, type) else handlers
        self._events: list[tuple[str, Event]] = []

    def and_given(self, *events: Event, stream: str = "test") -> Self:
        """Let these events have happened, in this order, in one stream."""
        self._events += [(stream, event) for event in events]
        return self

    async def then(self, *views: View) -> None:
        """Handle the events and compare these views, by their keys.

        Raises:
            AssertionError: a view is missing or differs.
            Exception: what a handler raised.
        """
        store = await self.views()
        for expected in views:
            kind = view_type(type(expected))
            got = await store.get(type(expected), kind.key_of(expected))
            assert got == expected, f"expected {expected!r}, got {got!r}"

    async def views(self) -> MemoryViewStore:
        """Handle the events and return the views.

        Raises:
            Exception: what a handler raised.
        """
        views = MemoryViewStore()
        if isinstance(self._handlers, Projection):
            self._handlers.views = views
        source: Source = StoreSource(MemoryEventStore(), _SERVICE)
        if self._handlers.source == "bus":
            source = BusSource(MemoryEventBus(partitions=1))
        applier = ProjectionApplier(self._handlers, source)
        await views.ensure(applier.views)
        versions: Counter[str] = Counter()
        events: list[BusEvent] = []
        for stream, event in self._events:
            versions[stream] += 1
            events.append(_sent(len(events) + 1, stream, versions[stream], event))
        try:
            async with views.transaction() as transaction:
                for raw in events:
                    await applier.outside(raw)
                await applier.apply(transaction, events)
        except EventFailed as failure:
            raise failure.cause from None
        return views


def _sent(position: int, stream: str, version: int, event: Event) -> BusEvent:
    """Return an event as the service sends it that its class names."""
    kind, new = message_type(type(event)), NewEvent.of(event, new_metadata())
    return BusEvent(
        source=kind.source or _SERVICE,
        epoch=_SERVICE,
        position=position,
        stream=stream,
        version=version,
        type=new.type,
        type_version=new.type_version,
        time=now_us(),
        tags=new.tags,
        data=new.data,
        metadata=new.metadata,
        confirmed=position,
    )
