"""From events to changes of views: bulk load, handlers in order, bulk save."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from headwater.errors import DeclarationError, UnknownMessage, ViewNotFound
from headwater.messages import EventCodec, Metadata, decode_metadata, handling
from headwater.processing.applier import Applier, EventFailed
from headwater.processing.declarations import EventHandlers, Projection
from headwater.processing.inspection import FreeHandler, HandlerTable, KeyedHandler, handler_table
from headwater.processing.message import EventMessage
from headwater.processing.sources import RawEvent, Source
from headwater.views import ViewStore, ViewTransaction, ViewType


class _Step(msgspec.Struct, frozen=True):
    """A keyed handler, ready to run; ``slot`` is the number of its view in the batch."""

    slot: int
    view: ViewType
    key: Callable[[Any], str]
    wants_view: bool
    wants_message: bool
    deletes: bool
    method: Callable[..., Any]


_Free = tuple[tuple[FreeHandler, Callable[..., Any]], ...]


class _Plan(msgspec.Struct, frozen=True):
    """The handlers of an event; those in ``outside`` take no part in the transaction."""

    keyed: tuple[_Step, ...]
    free: _Free
    outside: _Free


_Item = tuple[RawEvent, int, Any]
"""A stored event, and one that it has become: its number among all of them, and the event."""


class ProjectionApplier(Applier):
    """Applies the handlers of a `Projection` or `EventHandlers` object."""

    def __init__(self, handlers: EventHandlers, source: Source) -> None:
        """Compile the handlers of an object.

        Raises:
            DeclarationError: two event types share a wire name.
        """
        super().__init__(source)
        cls = type(handlers)
        table = handler_table(cls)
        self.name = cls.name
        self.segments = cls.segments
        self.views = table.views
        self._codec = EventCodec(table.events)
        self._plans = _plans(handlers, table)
        self.isolated = any(plan.outside for plan in self._plans.values())

    @property
    def types(self) -> tuple[str, ...]:
        """See `Applier.types`."""
        return self._codec.names

    def wants(self, name: str) -> bool:
        """See `Applier.wants`."""
        return self._codec.knows(name)

    async def outside(self, event: RawEvent) -> None:
        """See `Applier.outside`: free-form handlers that do not take the transaction."""
        for part, became in self.decode(event):
            if outside := self._plans[type(became)].outside:
                await self.run_free((event, part, became), outside, {})

    async def run_free(self, item: _Item, handlers: _Free, given: dict[str, Any]) -> None:
        """Run free-form handlers of an event, with what they take besides it and its message."""
        raw, _, given["event"] = item
        metadata = decode_metadata(raw.metadata)
        for handler, method in handlers:
            if "message" in handler.arguments:
                given["message"] = self.message(item, metadata)
            try:
                with handling(metadata):
                    await method(*(given[name] for name in handler.arguments))
            except Exception as error:
                raise EventFailed(raw, error) from error

    async def apply(self, transaction: ViewTransaction, events: Sequence[RawEvent]) -> None:
        """See `Applier.apply`.

        Events are decoded, and their views loaded, up to the next event with a free-form handler:
        before that one runs, everything before it is saved, so that it sees it.
        """
        batch = _Batch(self, transaction)
        for raw in events:
            for part, event in self.decode(raw):
                plan = self._plans[type(event)]
                if plan.keyed:
                    batch.add((raw, part, event), plan)
                if plan.free:
                    await batch.run()
                    given = {"transaction": transaction}
                    await self.run_free((raw, part, event), plan.free, given)
        await batch.run()

    def decode(self, raw: RawEvent) -> Sequence[tuple[int, Any]]:
        """Return what a stored event is, or has become, of what is handled; with their numbers.

        Raises:
            EventFailed: it cannot be decoded.
        """
        try:
            return self._codec.decode_parts(raw.type, raw.type_version, raw.data)
        except UnknownMessage:
            return ()
        except Exception as error:
            raise EventFailed(raw, error) from error

    def message(self, item: _Item, metadata: Metadata) -> EventMessage[Any]:
        """Return the message for a handler that asks for it."""
        raw, part, event = item
        return EventMessage(
            payload=event,
            metadata=metadata,
            source=self.source.name_of(raw),
            position=raw.position,
            stream=raw.stream,
            version=raw.version,
            time_us=raw.time,
            tags=raw.tags,
            part=part,
        )


def _plans(handlers: EventHandlers, table: HandlerTable) -> dict[type, _Plan]:
    plans: dict[type, _Plan] = {}
    for event in table.events:
        free = tuple((h, getattr(handlers, h.method)) for h in table.free.get(event, ()))
        plans[event] = _Plan(
            keyed=tuple(_step(handlers, h, table) for h in table.keyed.get(event, ())),
            free=tuple(f for f in free if "transaction" in f[0].arguments),
            outside=tuple(f for f in free if "transaction" not in f[0].arguments),
        )
    return plans


def _step(handlers: EventHandlers, handler: KeyedHandler, table: HandlerTable) -> _Step:
    return _Step(
        slot=table.views.index(handler.view.cls),
        view=handler.view,
        key=handler.key,
        wants_view=handler.wants_view,
        wants_message=handler.wants_message,
        deletes=handler.deletes,
        method=getattr(handlers, handler.method),
    )


class _Batch:
    """The keyed work of a run of events."""

    def __init__(self, applier: ProjectionApplier, transaction: ViewTransaction) -> None:
        self._applier = applier
        self._transaction = transaction
        self._work: list[tuple[_Item, list[str], _Plan]] = []
        self._wanted: list[dict[str, None]] = [{} for _ in applier.views]  # keys to load

    def add(self, item: _Item, plan: _Plan) -> None:
        """Take one more event: note the views it needs."""
        raw, _, event = item
        keys: list[str] = []
        try:
            for step in plan.keyed:
                key = step.key(event)
                keys.append(key)
                if step.wants_view:
                    self._wanted[step.slot][key] = None
        except Exception as error:
            raise EventFailed(raw, error) from error
        self._work.append((item, keys, plan))

    async def run(self) -> None:
        """Load, handle and save everything that was added."""
        if not self._work:
            return
        views = self._applier.views
        caches: list[dict[str, Any]] = [  # by key; None: it is known not to exist
            dict(await self._transaction.load(view, list(keys))) if keys else {}
            for view, keys in zip(views, self._wanted, strict=True)
        ]
        changed: list[dict[str, None]] = [{} for _ in views]
        for item, keys, plan in self._work:
            raw, _, event = item
            metadata = decode_metadata(raw.metadata)
            try:
                with handling(metadata):
                    for step, key in zip(plan.keyed, keys, strict=True):
                        message = (
                            (self._applier.message(item, metadata),) if step.wants_message else ()
                        )
                        _handle(step, key, caches[step.slot], event, message)
                        changed[step.slot][key] = None
            except Exception as error:
                raise EventFailed(raw, error) from error
        for view, cache, keys_changed in zip(views, caches, changed, strict=True):
            saved = [v for k in keys_changed if (v := cache[k]) is not None]
            deleted = [k for k in keys_changed if cache[k] is None]
            if saved:
                await self._transaction.save(saved)
            if deleted:
                await self._transaction.delete(view, deleted)
        self._work, self._wanted = [], [{} for _ in views]


def _handle(
    step: _Step,
    key: str,
    cache: dict[str, Any],
    event: Any,
    message: tuple[EventMessage[Any], ...],
) -> None:
    if step.wants_view:
        view = cache.get(key)
        if view is None:
            view = cache[key] = _fresh(step.view, key)
        step.method(view, event, *message)
    elif step.deletes:
        step.method(event, *message)
        cache[key] = None
    else:
        made = step.method(event, *message)
        if type(made) is not step.view.cls or step.view.key_of(made) != key:
            raise DeclarationError(
                subject=step.method.__qualname__,
                reason=f"must return the {step.view.name} {key!r}, got {made!r}",
            )
        cache[key] = made


def _fresh(view: ViewType, key: str) -> Any:
    if not view.defaults:
        raise ViewNotFound(view=view.name, key=key)
    return msgspec.convert({view.key: key}, view.cls, strict=False)  # the key may be a number


def applier_of(
    handlers: EventHandlers | type[EventHandlers] | Applier, *, source: Source, views: ViewStore
) -> Applier:
    """Return the applier of declared handlers, their views injected."""
    if isinstance(handlers, Applier):
        return handlers
    made = handlers() if isinstance(handlers, type) else handlers
    if isinstance(made, Projection):
        made.views = views
    return ProjectionApplier(made, source)
