"""From a queue to handlers: each message's effect once, acknowledged when it is committed."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import structlog

from headwater.bridges.amqp.broker import broker_of
from headwater.bridges.amqp.declarations import AmqpQueue
from headwater.bridges.amqp.reading import read
from headwater.bridges.amqp.session import Session
from headwater.bridges.api import Parts
from headwater.bridges.inbox import HandledMessage, forget, now_s
from headwater.bridges.strangers import Strangers
from headwater.errors import (
    EventUnreadable,
    HeadwaterError,
    InvalidInput,
    Rejection,
    Unavailable,
    UnknownMessage,
)
from headwater.eventbus import BusEvent
from headwater.modelling import Projection, Retry
from headwater.processing import LocalStatus, Source, WaitingStatus
from headwater.processing.handling.applier import EventFailed
from headwater.processing.handling.failures import code_of, describe, is_outage
from headwater.processing.running.back_off import BackOff
from headwater.processing.running.projector import ProjectionApplier

_log = structlog.get_logger("headwater.bridges")
_FORGET_EVERY_S = 60.0
_STOP_S = 10.0  # a handler that has not returned by then is cancelled
_FOR_GOOD = (Rejection, InvalidInput, EventUnreadable)  # trying again will not help


class _Item(msgspec.Struct, eq=False):
    """A message, and how often its handlers have failed.

    Attributes:
        message: as delivered.
        stream: what has to be handled in order.
        event: what it says; None: it is not to be handled, and ``verdict`` says why.
        key: that of the inbox.
        tries: how often it failed, without the times that something was merely away (``outages``).
        settled: the broker was told what became of it.
    """

    message: Any
    stream: str
    event: BusEvent | None = None
    key: str = ""
    verdict: HeadwaterError | None = None
    tries: int = 0
    outages: int = 0
    settled: bool = False


class _Held(msgspec.Struct):
    """A stream whose first message waits for its next try, and the others behind it."""

    items: deque[_Item]
    due: float  # monotonic seconds
    error: str


class AmqpListener:
    """Brings the messages of a queue to a class of handlers."""

    def __init__(self, handlers: Any, *, queue: AmqpQueue, parts: Parts) -> None:
        """Wire up; nothing runs before `start`.

        Raises:
            ConfigurationError: the broker is not named, or wrongly.
            DeclarationError: the handlers are declared wrongly.
        """
        cls = type(handlers)
        self.name: str = cls.name
        subject = f"{cls.__name__} of service {parts.service!r}"
        self._queue = queue
        self._broker = broker_of(parts.url, wanted_by=subject)
        self._parts = parts
        self._retry: Retry = cls.retry or parts.settings.retry
        source = cast("Source", Strangers(parts.codec))  # what an applier asks of a source
        self._applier = ProjectionApplier(handlers, source)
        self._applier.code = ""  # its views cannot be filled again, so they belong to all programs
        if isinstance(handlers, Projection):
            handlers.views = parts.own
        self._back_off = BackOff(self.name, parts.settings)
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._held: dict[str, _Held] = {}
        self._handled = self._letters = self._failures = self._retries = self._places = 0
        self._forget_at = 0.0  # monotonic seconds

    async def start(self) -> None:
        """Make room for the views, and begin to listen.

        Raises:
            ConfigurationError: the stored views have another shape.
            StoreUnavailable: the view store is away.
        """
        views = self._parts.views
        await views.ensure([HandledMessage])
        await views.ensure(self._applier.views, processor=self.name)
        self._stopping = False
        self._task = asyncio.create_task(self._run(), name=f"{self.name} listener")

    async def stop(self) -> None:
        """Finish the batch at hand, and close the connection. Twice is fine."""
        self._stopping = True
        self._wake.set()
        task, self._task = self._task, None
        if task is not None:
            _, late = await asyncio.wait([task], timeout=_STOP_S)
            for one in late:
                one.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def failure(self) -> str:
        """What keeps it from working at the moment, empty when nothing does."""
        return self._back_off.failure

    async def status(self) -> LocalStatus:
        """Return what it does; ``letters`` are the dead ones since the start."""
        now, monotonic = now_s(), time.monotonic()
        return LocalStatus(
            name=self.name,
            generation=1,
            groups=(),
            handled=self._handled,
            parked=0,
            failure=self.failure,
            letters=self._letters,
            failures=self._failures,
            retries=self._retries,
            waiting=tuple(
                WaitingStatus(stream, now + held.due - monotonic, held.items[0].tries, held.error)
                for stream, held in self._held.items()
            ),
        )

    async def _run(self) -> None:
        while not self._stopping:
            try:
                async with Session.open(
                    self._queue,
                    self._broker,
                    called=f"{self._parts.owner} {self.name}",
                    wake=self._wake.set,
                ) as session:
                    await self._serve(session)
            except Exception as error:  # noqa: BLE001  # it must go on, whatever it is
                await self._pause(error)
            finally:
                self._held.clear()  # these will be delivered again

    async def _pause(self, error: Exception) -> None:
        ends = time.monotonic() + self._back_off.met(error)
        while not self._stopping and (left := ends - time.monotonic()) > 0:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()

    async def _serve(self, session: Session) -> None:
        """Handle what comes until the session is lost or this is stopped.

        Raises:
            Unavailable: the connection is lost, or the view store is away.
        """
        batch: list[_Item] = []
        while not self._stopping:
            self._wake.clear()
            if session.lost is not None:
                raise session.lost
            batch += await self._batch(session)
            try:
                await self._forget()
                await self._handle(session, batch)
            except Unavailable as error:
                if getattr(error, "store", "") == self._broker.name:
                    raise
                # Not the broker: what is here stays here. Given back again and again, it would be
                # counted as poison by queues with a limit of deliveries.
                batch = [one for one in batch if not (one.settled or self._waits(one))]
                await self._pause(error)
                continue
            self._back_off.over()
            if batch:
                batch = []
                continue
            due = min((held.due for held in self._held.values()), default=self._forget_at)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(due, self._forget_at) - time.monotonic())):
                    await self._wake.wait()

    async def _batch(self, session: Session) -> list[_Item]:
        """Return what can be handled now, in order."""
        now, batch = time.monotonic(), list[_Item]()
        for stream in [s for s, held in self._held.items() if held.due <= now]:
            batch += self._held.pop(stream).items
            self._retries += 1
        while session.fresh:
            message = session.fresh.popleft()
            item = self._item(message)
            if item is None:
                await session.acknowledge(message)
            else:
                batch.append(item)
        return [item for item in batch if not self._behind(item)]

    def _item(self, message: Any) -> _Item | None:
        """Return what a message is; None: something that is skipped."""
        self._places += 1
        alone = f"{self._places}"
        try:
            found = read(message, self._queue, self._places)
        except HeadwaterError as error:
            return _Item(message, alone, verdict=error)
        if self._applier.wants(found.event.type):
            return _Item(message, found.event.stream, found.event, found.key)
        if self._queue.unhandled == "skip":
            return None
        return _Item(message, alone, verdict=UnknownMessage(name=found.event.type))

    def _waits(self, item: _Item) -> bool:
        held = self._held.get(item.stream)
        return held is not None and item in held.items

    def _behind(self, item: _Item) -> bool:
        """Whether a message has to wait behind another one of its stream, and does so now."""
        held = self._held.get(item.stream)
        if held is None:
            return False
        held.items.append(item)
        return True

    async def _handle(self, session: Session, batch: Sequence[_Item]) -> None:
        """Handle messages: all in one transaction, or, where that fails, one by one.

        Raises:
            Unavailable: the view store or the broker is away; what was not acknowledged will be
                delivered again.
        """
        if self._applier.isolated:
            await self._side_by_side(session, batch)
            return
        if len(batch) > 1 and all(item.verdict is None for item in batch):
            try:
                await self._commit(batch)
            except Unavailable:
                raise
            except Exception:  # noqa: BLE001, S110  # find out which one it was
                pass
            else:
                await self._acknowledge(session, batch)
                return
        for item in batch:
            await self._handle_one(session, item)

    async def _side_by_side(self, session: Session, batch: Sequence[_Item]) -> None:
        """Let handlers that may take long run at once, but those of one stream in order."""
        streams: dict[str, list[_Item]] = {}
        for item in batch:
            streams.setdefault(item.stream, []).append(item)

        async def in_order(items: list[_Item]) -> None:
            for item in items:
                await self._handle_one(session, item)

        async with contextlib.AsyncExitStack() as stack:
            tasks = [asyncio.ensure_future(in_order(items)) for items in streams.values()]
            stack.push_async_callback(_ended, tasks)
            await asyncio.gather(*tasks)

    async def _handle_one(self, session: Session, item: _Item) -> None:
        if self._behind(item):
            return
        if item.event is None:
            await self._failed(session, item, item.verdict or UnknownMessage(name=""))
            return
        try:
            if self._applier.isolated and not await self._is_known(item):
                await self._applier.outside(item.event)
            await self._commit([item])
        except EventFailed as failure:
            await self._failed(session, item, failure.cause)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001  # what the database objects to at the end
            await self._failed(session, item, error)
        else:
            await self._acknowledge(session, [item])

    async def _is_known(self, item: _Item) -> bool:
        return await self._parts.views.get(HandledMessage, item.key) is not None

    async def _commit(self, items: Sequence[_Item]) -> None:
        """Do once what messages ask for, and note that it was done, in one transaction.

        It survives the machine, as the broker forgets what is acknowledged.
        """
        async with self._parts.views.transaction(synced=True) as transaction:
            known = set(await transaction.load(HandledMessage, [item.key for item in items]))
            events: list[BusEvent] = []
            noted: list[HandledMessage] = []
            until = now_s() + self._queue.known_s
            for item in items:
                if item.event is not None and item.key not in known:
                    known.add(item.key)
                    events.append(item.event)
                    noted.append(HandledMessage(id=item.key, until=until))
            await self._applier.apply(transaction, events)
            if noted:
                await transaction.save(noted)
        self._handled += len(events)

    async def _acknowledge(self, session: Session, items: Sequence[_Item]) -> None:
        for item in items:
            await session.acknowledge(item.message)
            item.settled = True

    async def _failed(self, session: Session, item: _Item, error: BaseException) -> None:
        """Let a message wait for its next try, or dispose of it."""
        self._failures += 1
        if is_outage(error):
            item.outages += 1
            self._hold(item, self._parts.settings.back_off(item.outages), error)
            return
        item.tries += 1
        if not isinstance(error, _FOR_GOOD) and item.tries < self._retry.attempts:
            self._hold(item, self._retry.pause(item.tries), error)
            return
        try:
            await self._dispose(session, item, error)
        except Unavailable as away:
            if session.lost is not None:
                raise
            item.tries -= 1  # it is not out of the way: its handlers are asked again
            item.outages += 1
            self._hold(item, self._parts.settings.back_off(item.outages), away)

    def _hold(self, item: _Item, pause_s: float, error: BaseException) -> None:
        told = describe(error)
        if item.tries + item.outages == 1:
            _log.warning("a message waits for its next try", queue=self._queue.queue,
                         stream=item.stream, reason=told)  # fmt: skip
        self._held[item.stream] = _Held(deque([item]), time.monotonic() + pause_s, told)

    async def _dispose(self, session: Session, item: _Item, error: BaseException) -> None:
        """Send a message to the dead letters with its reason.

        Raises:
            StoreUnavailable: nobody takes it.
        """
        reason, code = describe(error), code_of(error)
        message = item.message
        await session.dead_letter(
            message, error=reason, code=code, attempts=item.tries, service=self._parts.service
        )
        item.settled = True
        self._letters += 1
        _log.warning("a message went to the dead letters", queue=self._queue.queue,
                     to=self._queue.dead_letters, message_id=message.message_id or "", code=code,
                     reason=reason)  # fmt: skip

    async def _forget(self) -> None:
        if time.monotonic() >= self._forget_at:
            await forget(self._parts.views)
            self._forget_at = time.monotonic() + _FORGET_EVERY_S


async def _ended(tasks: Sequence["asyncio.Future[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


__all__ = ["AmqpListener"]
