"""From events to changes of views: bulk load, handlers in order, bulk save."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import msgspec

from headwater.errors import DeadlineExceeded, DeclarationError, ViewNotFound
from headwater.messages import Event, Metadata, handling
from headwater.messages.codec import metadata_of
from headwater.messages.inheritance import known_events
from headwater.messages.keys import Keys
from headwater.messages.sealing import opened_event
from headwater.messages.text import shown
from headwater.modelling.event_handlers import EventHandlers, Projection
from headwater.modelling.event_message import EventMessage
from headwater.modelling.handler_tables import (
    FreeHandler,
    HandlerTable,
    KeyedHandler,
    handler_table,
)
from headwater.processing.generations.fingerprint import code_of
from headwater.processing.generations.own_views import OwnViews
from headwater.processing.handling.applier import Applier, Busy, EventFailed, failed
from headwater.processing.handling.entries import chosen, entries_of
from headwater.processing.sources.source import EventId, RawEvent, Source, event_id
from headwater.views import ViewStore, ViewTransaction, ViewType


class _Step(msgspec.Struct, frozen=True):
    """A keyed handler, ready to run; ``slot`` is the number of its view in the batch."""

    slot: int
    view: ViewType
    key: Keys
    wants_view: bool
    wants_message: bool
    deletes: bool
    several: bool
    method: Callable[..., Any]


_Call = tuple[_Step, tuple[str, ...]]  # one handler, called once for one key, or for several
_Free = tuple[tuple[FreeHandler, Callable[..., Any]], ...]


class _Plan(msgspec.Struct, frozen=True):
    """The handlers of an event; those in ``outside`` take no part in the transaction."""

    keyed: tuple[_Step, ...]
    free: _Free
    outside: _Free

    @property
    def tells_replays(self) -> bool:
        """Whether some handler wants to know whether an event is replayed."""
        return any(step.wants_message for step in self.keyed) or any(
            "message" in handler.arguments or not handler.replay
            for handler, _ in (*self.free, *self.outside)
        )


class _Item(msgspec.Struct, gc=False):
    """One event to handle; ``part`` is its number among those that the stored one has become."""

    raw: RawEvent
    part: int
    event: Any
    plan: _Plan
    replaying: bool = False


class ProjectionApplier(Applier):
    """Applies the handlers of a `Projection` or `EventHandlers` object."""

    def __init__(self, handlers: EventHandlers, source: Source) -> None:
        """Compile the handlers of an object.

        Raises:
            DeclarationError: two event types share a wire name, or an event has two handlers that
                are equally near.
        """
        super().__init__(source)
        cls = type(handlers)
        table = handler_table(cls)
        self.name = cls.name
        self.segments = cls.segments
        self.views = table.views
        self.documents = table.documents
        plans = _plans(handlers, table)
        self._entries = entries_of(plans, source)
        self._names = tuple(self._entries)
        self.isolated = any(plan.outside for plan in plans.values())
        self.tells_replays = any(plan.tells_replays for plan in plans.values())
        self.start = "beginning" if cls.keeps_views else cls.start
        self.policy = cls.retry
        self._timeout_s = cls.timeout_s
        if cls.keeps_views and self.views and not self.isolated:  # else effects would come again
            self.code = code_of(cls)

    @property
    def types(self) -> tuple[str, ...]:
        """See `Applier.types`."""
        return self._names

    def wants(self, name: str) -> bool:
        """See `Applier.wants`."""
        return name in self._entries

    async def outside(self, event: RawEvent, *, replaying: bool = False) -> None:
        """See `Applier.outside`: free-form handlers that do not take the transaction."""
        for item in self.items(event, replaying):
            if item.plan.outside:
                await self.run_free(item, item.plan.outside, {})

    async def run_free(self, item: _Item, handlers: _Free, given: dict[str, Any]) -> None:
        """Run free-form handlers of an event, with what they take besides it and its message."""
        raw = item.raw
        given["event"] = item.event
        try:
            metadata = metadata_of(raw)
            for handler, method in handlers:
                if item.replaying and not handler.replay:
                    continue
                if "message" in handler.arguments:
                    given["message"] = self.message(item, metadata)
                with handling(metadata), self._busy(handler, raw):
                    async with asyncio.timeout(self._timeout_s) as limit:
                        await method(*(given[name] for name in handler.arguments))
        except TimeoutError as error:
            if self._timeout_s is None or not limit.expired():
                raise failed(raw, error) from error
            late = DeadlineExceeded(action=handler.method, timeout_s=self._timeout_s)
            raise EventFailed(raw, late) from error
        except BaseException as error:
            raise failed(raw, error) from error

    @contextlib.contextmanager
    def _busy(self, handler: FreeHandler, raw: RawEvent) -> Iterator[None]:
        key = object()
        self.busy[key] = Busy(handler.method, raw.type, raw.stream, raw.position, time.monotonic())
        try:
            yield
        finally:
            del self.busy[key]

    async def apply(
        self,
        transaction: ViewTransaction,
        events: Sequence[RawEvent],
        *,
        replayed: Container[EventId] = (),
    ) -> None:
        """See `Applier.apply`.

        Events are decoded, and their views loaded, up to the next event with a free-form handler:
        before that one runs, everything before it is saved, so that it sees it.
        """
        batch = _Batch(self, transaction)
        told = self.tells_replays and replayed != ()
        replaying = False
        for raw in events:
            if told:
                replaying = event_id(raw) in replayed
            for item in self.items(raw, replaying):
                batch.add(item)
                if item.plan.free:
                    await batch.run()
                    await batch.run_free(item)
        await batch.run()

    def items(self, raw: RawEvent, replaying: bool = False) -> Sequence[_Item]:
        """Return what a stored event is, or has become: those events that are handled.

        Raises:
            EventFailed: it cannot be decoded.
        """
        entry = self._entries.get(raw.type)
        if entry is not None and entry.bound:
            entry = chosen(entry, raw, self.source)
        if entry is None:
            return ()
        direct, codec = entry.direct, self.source.codec
        if codec is None and direct is not None and raw.type_version == direct[0]:
            try:
                return (_Item(raw, 0, direct[1](raw.data), direct[2], replaying),)
            except Exception:  # noqa: BLE001, S110  # the codec says which event it is, and why
                pass
        try:
            parts = entry.codec.read_parts(opened_event(codec, raw))
        except BaseException as error:
            raise failed(raw, error) from error
        plans = entry.handlers
        return [_Item(raw, part, event, plans[type(event)], replaying) for part, event in parts]

    def message(self, item: _Item, metadata: Metadata) -> EventMessage[Any]:
        """Return the message for a handler that asks for it."""
        raw = item.raw
        return EventMessage(
            payload=item.event,
            metadata=metadata,
            source=self.source.name_of(raw),
            position=raw.position,
            stream=raw.stream,
            version=raw.version,
            time_us=raw.time,
            tags=raw.tags,
            part=item.part,
            replaying=item.replaying,
        )


def _plans(handlers: EventHandlers, table: HandlerTable) -> dict[type[Event], _Plan]:
    plans: dict[type[Event], _Plan] = {}
    for event in known_events(table.events):
        keyed, declared = table.of(event)
        free = tuple((h, getattr(handlers, h.method)) for h in declared)
        plans[event] = _Plan(
            keyed=tuple(_step(handlers, h, table) for h in keyed),
            free=tuple(f for f in free if "transaction" in f[0].arguments),
            outside=tuple(f for f in free if "transaction" not in f[0].arguments),
        )
    return plans


def _step(handlers: EventHandlers, handler: KeyedHandler, table: HandlerTable) -> _Step:
    return _Step(
        slot=table.documents.index(handler.view.cls),
        view=handler.view,
        key=handler.key,
        wants_view=handler.wants_view,
        wants_message=handler.wants_message,
        deletes=handler.deletes,
        several=handler.several,
        method=getattr(handlers, handler.method),
    )


class _Batch:
    """The keyed work of a run of events."""

    def __init__(self, applier: ProjectionApplier, transaction: ViewTransaction) -> None:
        self._applier = applier
        self._transaction = transaction
        self._work: list[tuple[_Item, list[_Call]]] = []
        self._wanted: list[dict[str, None]] = [{} for _ in applier.documents]  # keys to load

    def add(self, item: _Item) -> None:
        """Take one more event: note the views it needs."""
        if not item.plan.keyed:
            return
        calls: list[_Call] = []
        try:
            for step in item.plan.keyed:
                key = step.key(item.event)
                keys = (key,) if isinstance(key, str) else key
                if step.wants_view:
                    for key in keys:
                        calls.append((step, (key,)))
                        self._wanted[step.slot][key] = None
                elif keys:
                    calls.append((step, keys))
        except BaseException as error:
            raise failed(item.raw, error) from error
        if calls:
            self._work.append((item, calls))

    async def run(self) -> None:
        """Load, handle and save everything that was added."""
        if not self._work:
            return
        views = self._applier.documents
        caches: list[dict[str, Any]] = [  # by key; None: it is known not to exist
            dict(await self._transaction.load(view, list(keys))) if keys else {}
            for view, keys in zip(views, self._wanted, strict=True)
        ]
        changed: list[dict[str, None]] = [{} for _ in views]
        for item, calls in self._work:
            try:
                metadata = metadata_of(item.raw)
                with handling(metadata):
                    for step, keys in calls:
                        message = (
                            (self._applier.message(item, metadata),) if step.wants_message else ()
                        )
                        _handle(step, keys, caches[step.slot], item.event, message)
                        for key in keys:
                            changed[step.slot][key] = None
            except BaseException as error:
                raise failed(item.raw, error) from error
        for view, cache, keys_changed in zip(views, caches, changed, strict=True):
            saved = [v for k in keys_changed if (v := cache[k]) is not None]
            deleted = [k for k in keys_changed if cache[k] is None]
            if saved:
                await self._transaction.save(saved)
            if deleted:
                await self._transaction.delete(view, deleted)
        self._work, self._wanted = [], [{} for _ in views]

    async def run_free(self, item: _Item) -> None:
        """Run the free-form handlers of an event."""
        given = {"transaction": self._transaction}
        await self._applier.run_free(item, item.plan.free, given)
        try:
            await self._transaction.check()
        except BaseException as error:
            raise failed(item.raw, error) from error


def _handle(
    step: _Step,
    keys: tuple[str, ...],
    cache: dict[str, Any],
    event: Any,
    message: tuple[EventMessage[Any], ...],
) -> None:
    if step.wants_view:
        (key,) = keys
        view = cache.get(key)
        if view is None:
            view = cache[key] = _fresh(step, key)
        step.method(view, event, *message)
    elif step.deletes:
        step.method(event, *message)
        cache.update(dict.fromkeys(keys))
    else:
        returned = step.method(event, *message)
        views = returned if step.several and isinstance(returned, list) else [returned]
        cache.update(_made(step, keys, views))


def _made(step: _Step, keys: tuple[str, ...], views: list[Any]) -> dict[str, Any]:
    """Return the views that a handler has made, by key: one for each key of the event."""
    cls, key_of = step.view.cls, step.view.key_of
    made = {key_of(view): view for view in views if type(view) is cls}
    if len(made) != len(views) or made.keys() != set(keys):
        raise DeclarationError(
            subject=step.method.__qualname__,
            reason=f"must return the {step.view.name} {' and '.join(map(repr, keys))}, "
            f"got {shown(views if step.several else views[0])}",
        )
    return made


def _fresh(step: _Step, key: str) -> Any:
    view = step.view
    if not view.defaults:
        raise ViewNotFound(view=view.name, key=key)
    try:
        made = view.fresh(key)  # the key may be a number
    except msgspec.ValidationError:
        made = None
    if made is None or view.key_of(made) != key:  # it would not be found again
        raise DeclarationError(
            subject=step.method.__qualname__,
            reason=f"its key is {key!r}, which is none of {view.name}.{view.key}: declare both of "
            "one type",
        )
    return made


def applier_of(
    handlers: EventHandlers | type[EventHandlers] | Applier,
    *,
    source: Source,
    views: ViewStore,
    own: OwnViews | None = None,
) -> Applier:
    """Return the applier of declared handlers, their views injected: all those of a program."""
    if isinstance(handlers, Applier):
        return handlers
    made = handlers() if isinstance(handlers, type) else handlers
    applier = ProjectionApplier(made, source)
    own = own or OwnViews(views)
    own.add(applier)
    if isinstance(made, Projection):
        made.views = own
    return applier
