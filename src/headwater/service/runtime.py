"""The lifecycle of one instance: everything a service needs, opened in order, closed in reverse."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec
import structlog

from headwater._http import AsgiServer
from headwater._http.tls import client_context, server_context
from headwater._os.garbage import COLLECTOR
from headwater._os.signals import stop_on_signals
from headwater._sql import clock_watch
from headwater.client import HttpCaller
from headwater.config import Config, ConfigClient, Settings, StaticConfig
from headwater.discovery import Discovery, DiscoveryClient, Instance, StaticDiscovery
from headwater.discovery.advertise import advertised
from headwater.dispatch import CommandBus, CommandInterceptor, QueryBus, QueryInterceptor
from headwater.dispatch.interceptors import (
    Validating,
    authorizing,
    in_context,
    logging_commands,
    query_in_context,
)
from headwater.dispatch.local import LocalCommandBus, LocalQueryBus
from headwater.dispatch.remote import RemoteCommandBus, RemoteQueryBus
from headwater.dispatch.tracing import tracing
from headwater.errors import ConfigurationError, HeadwaterError
from headwater.eventbus import EventBus
from headwater.eventstore import StreamStore
from headwater.messages import Principal, now_us
from headwater.modelling import Repository
from headwater.modelling.models import DecisionHandlers, check_shardable
from headwater.processing.scheduling import Schedule
from headwater.service.deferred import DeferredSettings
from headwater.service.edge import Edge
from headwater.service.engines import EVENT_BUSES, EVENT_STORES, VIEW_STORES, settle_owner
from headwater.service.health import Ask, Health
from headwater.service.late_bus import open_now_or_later
from headwater.service.later import ServiceCommands
from headwater.service.metrics import Metrics
from headwater.service.names import check_names
from headwater.service.openapi import openapi_document
from headwater.service.processors import Processors
from headwater.service.service import Service
from headwater.service.settings import ServiceSettings, service_settings
from headwater.service.surroundings import Surroundings
from headwater.service.upkeep import Upkeep
from headwater.views import ViewStore

_log = structlog.get_logger("headwater.service")
_SECTION = "headwater"


class Runtime:
    """One running instance of a service.

    Start: configuration, stores, processors, edge, views, registration. A failing step closes what
    the steps before it opened, and its error is raised: an instance never runs by half. Stop goes
    the other way and lets requests in progress finish.
    """

    def __init__(
        self,
        service: Service,
        given: Mapping[str, Any],
        *,
        surroundings: Surroundings | None = None,
    ) -> None:
        """Describe the instance.

        Args:
            service: what to run.
            given: settings by name (see `ServiceSettings`); they take precedence over those in
                the section ``headwater`` of the configuration service.
            surroundings: what it finds outside; None: what its settings name.

        Raises:
            ConfigurationError: a setting is unknown or of the wrong type.
        """
        self.service = service
        self.surroundings = surroundings or Surroundings()
        self.clients = self.surroundings.clients
        self._given = {**given, "service": service.name}
        self.settings: ServiceSettings = service_settings(self._given, origin="the command line")
        self._exit = contextlib.AsyncExitStack()
        self._stopping = False
        self.store: StreamStore | None = None
        self.views: ViewStore | None = None
        self.bus: EventBus | None = None
        self._traced = tracing()
        self.repositories: dict[str, Repository[Any]] = {}

    async def start(self) -> None:
        """Start the instance; it takes traffic when this returns.

        Raises:
            DeclarationError: two of the service have the same name.
            StartupError: configuration or discovery cannot be reached.
            ConfigurationError: a setting is wrong, a database belongs to another service, or
                another service publishes other events under the name of one;
                `AddressInUse`: the port is taken.
            StoreUnavailable, StoreCorrupt, SchemaTooNew: a database cannot be used.
            ShardMismatch: it is not the shard that its place among the URLs says.
        """
        async with contextlib.AsyncExitStack() as undo:
            self._exit = undo
            with self.service.within(self):  # so that all tasks know whose they are
                self._check()
                await self._configure()
                await self._open_engines()
                await self._connect()
                self._build_buses()
                undo.enter_context(self.service.running(self))
                await self._start_processors()
                await self._open_edge()
                await self.processors.filled()  # until then it is live, but not ready
                await self._register()
            undo.enter_context(COLLECTOR.serving())  # all that was made for the start stays
            self._exit = undo.pop_all()

    async def stop(self) -> None:
        """Leave discovery, finish requests in progress, stop processors, close stores."""
        if not self._stopping:
            self._stopping = True
            await self._exit.aclose()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    @property
    def url(self) -> str:
        """The base URL of the edge."""
        return self._server.url

    def _check(self) -> None:
        """Check the service as it is by now: more may have been defined since it was declared."""
        service = self.service
        self.event_names = check_names(service)
        self._document = openapi_document(
            service.name, service.version, *service.contract(), routes=service.routes
        )

    async def _configure(self) -> None:
        settings = self.settings
        self.config: Config = StaticConfig(self.surroundings.config)
        if settings.config:
            client = ConfigClient(
                settings.config,
                settings.service,
                settings.profiles,
                settings.label,
                start_timeout_s=settings.start_timeout_s,
                tls=client_context(settings.tls_ca),
            )
            self.config = client
            self._exit.push_async_callback(client.close)
        document = await self.config.load()
        section = document.config.get(_SECTION, {})
        if not isinstance(section, dict):
            raise ConfigurationError(
                subject=f"section {_SECTION!r} of the configuration", reason="must be a mapping"
            )
        self.settings = service_settings(
            {**section, **self._given, "instance": settings.instance},
            origin="the command line and the configuration service",
        )
        self.bound: Mapping[DeferredSettings[Any], Settings[Any]] = {
            declared: self.config.settings(declared.kind, prefix=declared.prefix)
            for declared in self.service.sections
        }

    async def _open_engines(self) -> None:
        service, settings, outside = self.service, self.settings, self.surroundings
        if service.aggregates or service.decisions:
            if len(settings.stores) > 1:
                for aggregate in service.aggregates:
                    check_shardable(aggregate)
                for model in service.decisions:
                    check_shardable(model)
            self.store = await outside.open_stream_store(settings.stores)
            self._exit.push_async_callback(self.store.close)
            for url, log in zip(settings.stores, self.store.shards, strict=True):
                await settle_owner(log, service.name, name=EVENT_STORES.name_of(url))
        if settings.bus:
            url = settings.url("bus")
            self.bus = await open_now_or_later(
                self._open_bus,
                name=EVENT_BUSES.name_of(url),
                partitions=settings.partitions,
                ordered=EVENT_BUSES.of(url).ordered,
            )
            self._exit.push_async_callback(self.bus.close)
        views = settings.url("views")
        self.views = await outside.open_view_store(views)
        self._exit.push_async_callback(self.views.close)
        await settle_owner(self.views, service.name, name=VIEW_STORES.name_of(views))

    async def _open_bus(self) -> EventBus:
        """Open the bus, and say there what is published: before that nothing may be."""
        settings = self.settings
        bus = await self.surroundings.open_event_bus(
            settings.url("bus"), partitions=settings.partitions
        )
        try:
            if self.store is not None and settings.commands:
                await self.event_names.announce(bus)
        except BaseException:
            await bus.close()
            raise
        return bus

    async def _connect(self) -> None:
        settings = self.settings
        tls = client_context(settings.tls_ca)
        self.discovery: Discovery = self.surroundings.discovery or StaticDiscovery({})
        if settings.discovery:
            client = DiscoveryClient(
                settings.discovery, start_timeout_s=settings.start_timeout_s, tls=tls
            )
            self._exit.push_async_callback(client.close)
            await client.start()
            self.discovery = client
        self.caller = HttpCaller(
            self.discovery,
            zone=settings.zone,
            tls=tls,
            credentials=self.service.credentials,
        )
        self._exit.push_async_callback(self.caller.close)
        self.metrics = Metrics(settings.service, settings.instance)

    def _build_buses(self) -> None:
        service, settings = self.service, self.settings
        handlers: list[Any] = []
        if settings.commands and self.store is not None:
            for aggregate in service.aggregates:
                repository = Repository(
                    aggregate,
                    self.store,
                    source=service.name,
                    cache_size=settings.cache_size,
                    on_snapshot_left_out=self.metrics.snapshot_left_out,
                    admit=self.event_names.admit,
                    codec=service.codec,
                )
                self.repositories[repository.type.name] = repository
                self._exit.push_async_callback(repository.close)
                handlers.append(repository.handlers())
            handlers += [
                DecisionHandlers(
                    model,
                    self.store.shards[0],
                    source=service.name,
                    admit=self.event_names.admit,
                    codec=service.codec,
                ).handlers()
                for model in service.decisions
            ]
        self.local_commands = LocalCommandBus(
            handlers, always=self._always(), interceptors=self._interceptors()
        )
        remote = RemoteCommandBus(self.caller, self.discovery, local=self.local_commands)
        assert self.views is not None
        schedule = Schedule(self.views, service=service.name) if service.scheduling else None
        self.commands = ServiceCommands(remote, schedule, service=service.name)
        self._build_processors(remote)

    def observe_call(
        self, target: str, verb: str, template: str, status: int, seconds: float
    ) -> None:
        """Count a call to another service."""
        self.metrics.client_call(target, verb, template, status, seconds)

    def _within(self, message: Any, proceed: Any) -> Any:
        """Let interceptors and query handlers belong to this instance (an interceptor)."""
        return proceed(message) if self.service.alone else self._entered(message, proceed)

    async def _entered(self, message: Any, proceed: Any) -> Any:
        with self.service.within(self):
            return await proceed(message)

    def _always(self) -> list[CommandInterceptor]:
        """Return what surrounds every command, also one that was carried out before."""
        chain: list[CommandInterceptor] = [*self._traced[0], logging_commands]
        return [*chain, *self._authorizing()]

    def _authorizing(self) -> list[Any]:
        """Return what asks the service's hook, if there is one."""
        if self.service.authorize is None:
            return []
        itself = Principal(subject=self.service.name, kind="service")
        return [authorizing(self.service.authorize, itself=itself)]

    def _interceptors(self) -> list[CommandInterceptor]:
        """Return what surrounds a command that is carried out."""
        own = self.service.interceptors
        return [Validating(), self._within, in_context, *own] if own else [Validating()]

    def _build_processors(self, commands: CommandBus) -> None:
        assert self.views is not None
        self.processors = Processors(
            self.service,
            self.settings,
            handlers=self._exit.enter_context(self.service.lend()),
            store=self.store,
            bus=self.bus,
            views=self.views,
            commands=commands,
            schedule=self.commands.schedule if self.service.scheduling else None,
            ticks=self.surroundings.ticks,
            bridged=self.surroundings.bridged,
        )
        chain: list[QueryInterceptor] = [*self._traced[1], *self._authorizing()]
        chain += [self._within, query_in_context, self.processors.wait_for_token]
        self.local_queries = LocalQueryBus(
            self.processors.query_handlers(),
            interceptors=[*chain, *self.service.query_interceptors],
        )
        self.queries: QueryBus = RemoteQueryBus(
            self.caller, self.discovery, local=self.local_queries
        )

    async def _start_processors(self) -> None:
        """Start what handles events; everything that its handlers may call is there by now."""
        self._exit.push_async_callback(self.processors.stop)
        await self.processors.start()
        assert self.views is not None
        self.upkeep = Upkeep(
            self.settings,
            store=self.store,
            bus=self.bus,
            views=self.views,
            processors=self.processors.readers,
        )
        self._forgetting = asyncio.create_task(self.upkeep.run(), name="upkeep")
        self._exit.push_async_callback(self._end_upkeep)

    async def _end_upkeep(self) -> None:
        self._forgetting.cancel()
        await asyncio.gather(self._forgetting, return_exceptions=True)

    async def _open_edge(self) -> None:
        settings = self.settings
        self.health = Health(self._parts(), folders=self._folders())
        self._exit.push_async_callback(self.health.stop)
        self.edge = Edge(
            settings,
            self.local_commands,
            self.local_queries,
            metrics=self.metrics,
            problems=self._problems,
            concerns=self._concerns,
            figures=self.processors.figures,
            document=self._document,
            routes=self.service.routes,
            authenticate=self.service.authenticate,
        )
        self._server = AsgiServer(
            self.edge,
            settings.host,
            settings.port,
            name=settings.instance,
            tls=server_context(settings.tls_certificate, settings.tls_key),
        )
        await self._server.start()
        self._exit.push_async_callback(self._drain)

    def _parts(self) -> dict[str, Ask]:
        """Return how each engine is asked whether this instance can do its work with it."""
        assert self.views is not None
        parts: dict[str, Ask] = {"view store": self.views.segments}
        logs = self.store.shards if self.store is not None else ()
        for log, url in zip(logs, self.settings.stores, strict=False):
            name = "event store" if len(logs) == 1 else f"event store {EVENT_STORES.name_of(url)}"
            parts[name] = log.probe if self.settings.commands else log.head
        if self.bus is not None:
            parts["event bus"] = self.bus.end
        return parts

    def _folders(self) -> list[Path]:
        """Return where this instance keeps data on disks of this machine."""
        settings = self.settings
        files = [VIEW_STORES.file_of(settings.url("views"))]
        if self.store is not None:
            files += map(EVENT_STORES.file_of, settings.stores)
        if settings.bus:
            files.append(EVENT_BUSES.file_of(settings.url("bus")))
        return [file.parent for file in files if file is not None]

    async def _problems(self) -> dict[str, str]:
        """Return what keeps this instance from its work at the moment, by name."""
        return await self.health.problems() | await self.processors.problems()

    async def _concerns(self) -> dict[str, str]:
        """Return what somebody should look at, by name, though all goes on."""
        machine = {**self.health.degraded(), **clock_watch.troubles()}
        return machine | await self.processors.concerns()

    async def _drain(self) -> None:
        self.edge.draining = True
        await self._server.stop(self.settings.drain_s)

    async def _register(self) -> None:
        settings = self.settings
        host = await asyncio.to_thread(
            advertised,
            settings.host,
            advertise=settings.advertise,
            registries=settings.discovery,
        )
        instance = Instance(
            service=settings.service,
            id=settings.instance,
            host=host,
            port=self._server.port,
            scheme=self._server.scheme,
            role=settings.role,
            zone=settings.zone,
            version=self.service.version,
            routes=self.edge.routes(),
            lease_s=settings.lease_s,
            started=now_us(),
        )
        await self.discovery.register(instance)
        self._exit.push_async_callback(self._leave, instance)
        _log.info(
            "ready",
            service=settings.service,
            instance=settings.instance,
            role=settings.role,
            url=self.url,
        )

    async def _leave(self, instance: Instance) -> None:
        """Tell everyone before refusing anything, so that no request meets a closed door."""
        draining = msgspec.structs.replace(instance, status="DRAINING")
        with contextlib.suppress(HeadwaterError):
            await self.discovery.update(draining)
            if self.settings.discovery:
                await asyncio.sleep(_SPREAD_S)
        await self.discovery.deregister(instance.id)


_SPREAD_S = 0.2
"""How long clients and the gateway get to hear of a draining instance."""


async def _started(runtime: Runtime, stop: asyncio.Event) -> bool:
    """Start an instance; return whether it runs: not if it was told to stop before."""
    starting, stopped = asyncio.ensure_future(runtime.start()), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not starting.done():
            starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
    return not starting.cancelled()


async def serve(
    service: Service,
    given: Mapping[str, Any],
    *,
    ready: Callable[[Runtime], None] | None = None,
) -> None:
    """Run one instance until SIGTERM, SIGINT or SIGHUP, then drain.

    Args:
        service: what to run.
        given: its settings by name.
        ready: called once with the running instance when it takes traffic.

    Raises:
        HeadwaterError: the start failed; see `Runtime.start`.
    """
    stop = stop_on_signals()
    async with contextlib.AsyncExitStack() as running:
        runtime = Runtime(service, given)
        if not await _started(runtime, stop):
            return
        running.push_async_callback(runtime.stop)
        if ready is not None:
            ready(runtime)
        await stop.wait()
        _log.info("stopping", service=service.name)
