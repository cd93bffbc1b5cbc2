"""All that runs behind the edge of one instance: projections, handlers, sagas, relay, bridges."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, Protocol

import structlog

from headwater.bridges import Bridge, Parts, QueueOfOthers
from headwater.dispatch import CommandBus, QueryMessage, QueryNext
from headwater.errors import ConfigurationError, HeadwaterError
from headwater.eventbus import EventBus
from headwater.eventstore import StreamStore
from headwater.messages import ConsistencyToken, Query
from headwater.modelling.query_handlers import query_handlers_of
from headwater.processing import (
    BusSource,
    LocalStatus,
    Processor,
    ProcessorSettings,
    RelayStatus,
    SagaProcessor,
    Source,
    StoreSource,
)
from headwater.processing.background import BackgroundTask
from headwater.processing.generations.own_views import OwnViews
from headwater.processing.handling.dead_letters import forget_dropped
from headwater.processing.relay import relays_of
from headwater.processing.scheduling import Schedule, ScheduleProcessor
from headwater.service.declaration import task_name
from headwater.service.metrics import Figures
from headwater.service.service import Service
from headwater.service.settings import ServiceSettings
from headwater.views import ViewStore

_log = structlog.get_logger("headwater.service")
_KEY_SHARE = 6 / 7  # for so much of the time that keys are known sagas send a command again
_ASK_S = 0.5  # whoever asks how it goes is answered soon, whatever a store does


class _Running(Protocol):
    name: str

    @property
    def failure(self) -> str: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def concerns(self) -> list[str]: ...
    async def status(self) -> LocalStatus | RelayStatus: ...


class Processors:
    """The processors of one instance, by its role.

    The query side runs projections and event handlers; the command side runs sagas and the relay
    from the store to the bus. Instances that share a view store share the work.
    """

    def __init__(
        self,
        service: Service,
        settings: ServiceSettings,
        *,
        handlers: Iterable[Any],
        store: StreamStore | None,
        bus: EventBus | None,
        views: ViewStore,
        commands: CommandBus,
        schedule: Schedule | None,
        ticks: Callable[[], float],
        bridged: bool = True,
    ) -> None:
        """Wire up; nothing runs yet. ``handlers`` are projections and handlers of its own.

        With a ``schedule`` what is in it is sent when it is due. Unless ``bridged``, what follows a
        queue follows the event bus where no broker is set, and nothing is published to others.

        Raises:
            ConfigurationError: a processor follows something that the service does not have.
        """
        self._service = service
        self._settings = settings
        self._store = store
        self._bus = bus
        self._running: list[_Running] = []
        self._by_query: dict[type[Query[Any]], Processor] = {}
        self._handlers: list[Mapping[type[Query[Any]], Callable[[Any], Awaitable[Any]]]] = []
        self._views = views
        self._cleaning: asyncio.Task[None] | None = None
        self._schedule = schedule
        how = ProcessorSettings(
            retry=settings.retry,
            unused_s=settings.views_unused_s,
            command_s=settings.keys_kept_s * _KEY_SHARE,
            ticks=ticks,
        )
        self._bridges: list[Bridge] = []
        parts = Parts(
            service=service.name,
            url=settings.amqp,
            owner=settings.instance,
            views=views,
            store=store,
            own=OwnViews(views),
            codec=service.codec,
            settings=how,
        )
        bridged = bridged or bool(settings.amqp)
        if settings.queries:
            self._add_readers(handlers, parts, bridged=bridged)
        if settings.commands:
            self._add_senders(commands, how)
            for publisher in service.publishers if bridged else ():
                self._bridges += publisher.publishers(parts)
        if schedule is not None:
            self._add_schedule(schedule, commands, how)
        self.tasks = [
            BackgroundTask(
                function,
                name=task_name(name),
                views=views,
                owner=settings.instance,
                settings=how,
            )
            for name, function in service.tasks.items()
        ]

    def _add_readers(self, handlers: Iterable[Any], parts: Parts, *, bridged: bool) -> None:
        """Add what builds views, answers from them, and has effects elsewhere."""
        for one in handlers:
            found = query_handlers_of(one)
            self._handlers.append(found)
            if isinstance(one.source, QueueOfOthers) and bridged:
                self._bridges.append(one.source.listener(one, parts))
                continue
            processor = Processor(
                one,
                source=self._source(one),
                views=self._views,
                owner=parts.owner,
                settings=parts.settings,
                own=parts.own,
            )
            self._add(processor)
            self._by_query.update(dict.fromkeys(found, processor))

    def _add_senders(self, commands: CommandBus, how: ProcessorSettings) -> None:
        service, owner = self._service, self._settings.instance
        for saga in service.sagas:
            self._add(
                SagaProcessor(
                    saga,
                    source=self._source_of(saga.saga_source, saga.__name__),
                    views=self._views,
                    commands=commands,
                    owner=owner,
                    settings=how,
                    service=service.name,
                )
            )
        if self._store is not None and self._bus is not None:
            self._running += relays_of(
                self._store,
                self._bus,
                name=service.name,
                views=self._views,
                owner=owner,
                settings=how,
            )

    def _add_schedule(
        self, schedule: Schedule, commands: CommandBus, how: ProcessorSettings
    ) -> None:
        known, _ = self._service.contract()
        self._running.append(
            ScheduleProcessor(
                schedule,
                views=self._views,
                owner=self._settings.instance,
                commands=commands,
                service=self._service.name,
                recurring=self._service.recurring,
                known=known,
                settings=how,
            )
        )

    def _add(self, processor: Processor) -> None:
        processor.applier.segments = self._settings.segments or processor.applier.segments
        self._running.append(processor)

    def _source(self, handlers: Any) -> Source:
        wanted: Literal["store", "bus"] = "bus"  # also where a queue is not bridged
        if handlers.source == "store":
            wanted = "store"
        return self._source_of(wanted, type(handlers).__name__)

    def _source_of(self, wanted: Literal["store", "bus"], name: str) -> Source:
        if wanted == "bus":
            if self._bus is None:
                raise ConfigurationError(
                    subject=f"{name} of service {self._service.name!r}",
                    reason="follows the event bus, and no bus is set: set bus, for example "
                    "bus='sqlite:{data}/bus.db'",
                )
            return BusSource(self._bus, codec=self._service.codec)
        if self._store is None:
            raise ConfigurationError(
                subject=f"{name} of service {self._service.name!r}",
                reason="follows the event store, and the service has no aggregates: "
                "let it follow the bus (source = 'bus')",
            )
        return StoreSource(self._store, self._service.name, codec=self._service.codec)

    def query_handlers(
        self,
    ) -> list[Mapping[type[Query[Any]], Callable[[Any], Awaitable[Any]]]]:
        """Return the query handlers of all projections of this instance."""
        return self._handlers

    async def wait_for_token(self, message: QueryMessage, proceed: QueryNext) -> Any:
        """Let a query wait until its projection shows the caller's token (an interceptor).

        Raises:
            NotCaughtUp: it did not in time, or its views are still being filled.
            EventParked, TokenMismatch, MalformedMessage: it never will, as things are.
        """
        token: ConsistencyToken | None = message.token
        processor = self._by_query.get(type(message.query))
        if processor is None:  # its views come from a queue, of which no token says anything
            return await proceed(message)
        if not processor.is_filled:
            raise await processor.unfilled()
        if token is not None:
            await processor.wait_for(token, timeout_s=self._settings.consistency_timeout_s)
        return await proceed(message)

    async def start(self) -> None:
        """Start all processors; those that were started are stopped when one fails.

        Raises:
            ConfigurationError: stored views have another shape: rebuild the projection.
            StoreUnavailable: a database is away.
        """
        if self._schedule is not None:
            await self._schedule.open()  # before handlers put something down in their transactions
        await asyncio.gather(*(one.start() for one in (*self._running, *self._bridges)))
        for task in self.tasks:
            await task.start()
        if self._by_query:
            self._cleaning = asyncio.create_task(self._clean(), name="views that are not used")

    async def filled(self) -> None:
        """Return when all views show what there is.

        Those that programs of the same code have filled once do so at once. Others are filled from
        the first event on, shared among all instances of that code.
        """
        waiting = [processor for processor in self.readers if not processor.is_filled]
        for processor in waiting:
            _log.info("views are being filled", processor=processor.name)
        await asyncio.gather(*(processor.filled() for processor in waiting))

    async def _clean(self) -> None:
        """Drop now and then the views of projections that no program has any more."""
        service, idle_s = self._service, self._settings.views_unused_s
        known = {one.name for one in (*service.projections, *service.handlers)}
        while True:
            await asyncio.sleep(max(1.0, idle_s / 5))
            with contextlib.suppress(HeadwaterError):  # then next time
                found = await self._views.generations()
                for name in {g.processor for g in found if g.code} - known:
                    dropped = await self._views.drop_unused(name, code="", idle_s=idle_s)
                    await forget_dropped(self._views, name, dropped)

    async def stop(self) -> None:
        """Finish the batches at hand and give the claims back."""
        if self._cleaning is not None:
            self._cleaning.cancel()
            await asyncio.gather(self._cleaning, return_exceptions=True)
        await asyncio.gather(*(task.stop() for task in self.tasks))
        stopped = await asyncio.gather(
            *(one.stop() for one in (*self._bridges, *reversed(self._running))),
            return_exceptions=True,
        )
        for error in stopped:
            if isinstance(error, BaseException):
                _log.warning("a processor did not stop cleanly", error=repr(error))

    @property
    def readers(self) -> list[Processor]:
        """Those that handle events, without the relay."""
        return [one for one in self._running if isinstance(one, Processor)]

    async def statuses(self) -> list[LocalStatus | RelayStatus]:
        """Return what each processor does in this process."""
        return [await one.status() for one in (*self._running, *self._bridges)]

    async def problems(self) -> dict[str, str]:
        """Return what keeps processors from working, by name; empty when nothing does."""
        found = {one.name: one.failure for one in self._running if one.failure}
        for one in self.readers:
            if not one.is_filled and one.name not in found:
                try:
                    async with asyncio.timeout(_ASK_S):
                        found[one.name] = str(await one.unfilled())
                except (HeadwaterError, TimeoutError) as error:
                    found[one.name] = str(error) or "its views are being filled"
        return found

    async def concerns(self) -> dict[str, str]:
        """Return what waits for its next try or for a person, by processor; all else goes on."""
        found = {task.name: task.concern for task in self.tasks if task.concern}
        found |= {one.name: one.failure for one in self._bridges if one.failure}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ASK_S):
                for one in self._running:
                    with contextlib.suppress(HeadwaterError):  # that is a problem, told as such
                        if told := await one.concerns():
                            found[one.name] = "; ".join(told)
        return found

    async def figures(self) -> list[Figures]:
        """Return for each processor what is counted of it here."""
        try:
            found = [_figures(status) for status in await self.statuses()]
        except HeadwaterError:
            found = []
        for task in self.tasks:
            status = task.status()
            found.append(
                Figures(task.name, 0, failures=status.failures, running=int(status.active))
            )
        return found


def _figures(status: LocalStatus | RelayStatus) -> Figures:
    if isinstance(status, RelayStatus):
        lag = max(0, status.head - status.position)
        paused = status.paused is not None
        return Figures(status.name, lag if status.active or paused else 0, paused=paused)
    return Figures(
        status.name,
        lag=max((group.lag for group in status.groups), default=0),
        letters=status.letters,
        parked=status.parked,
        waiting=len(status.waiting),
        failures=status.failures,
        retries=status.retries,
        paused=status.paused is not None,
    )
