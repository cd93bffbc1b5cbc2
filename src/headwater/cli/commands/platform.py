"""``headwater run discovery|config|gateway``: the platform's own services as processes."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from headwater._http.tls import client_context, server_context
from headwater._os.limits import Shortage, shortages, spare_watchers
from headwater._os.signals import stop_on_signals
from headwater.cli.given_settings import given_settings
from headwater.cli.logs import configure_logs
from headwater.cli.supervising.supervised import report, supervised
from headwater.config import SettingsStore
from headwater.discovery import DiscoveryClient, DiscoveryServer, RegistryStore
from headwater.errors import ConfigurationError, StartupError
from headwater.gateway import Gateway, GatewaySettings
from headwater.gateway.last_seen import remembers
from headwater.operations.documents import as_path

_log = structlog.get_logger("headwater.cli")
_LOOK_S = 0.05
_LOOKS = 60  # after each change: as long as Envoy needs at most to take it over


class _Common(msgspec.Struct, kw_only=True, frozen=True):
    host: str = "127.0.0.1"
    tls_certificate: str = ""
    tls_key: str = ""
    log_level: str = "info"
    log_format: str = "console"


class DiscoverySettings(_Common, frozen=True, kw_only=True):
    """Settings of ``headwater run discovery``.

    Registries with the URL of the same ``database`` share what they know. One without knows nothing
    at its start: for ``settle_s`` seconds it says of what is not listed that it cannot tell yet.
    """

    port: int = 8761
    database: str = ""
    settle_s: float = 5.0


class ConfigSettings(_Common, frozen=True, kw_only=True):
    """Settings of ``headwater run config``: where the settings files are.

    With the URL of a ``database`` they are there, and those in ``directory`` are its first content.
    """

    port: int = 8888
    directory: Path = Path("config")
    database: str = ""


def run_platform(target: str, flags: Mapping[str, Any]) -> None:
    """Run a platform service until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: a setting is wrong, or the port is in use.
    """
    import uvloop

    run = {"discovery": _discovery, "config": _config, "gateway": _gateway}[target]
    uvloop.run(run(flags))


def _settings(kind: type[Any], flags: Mapping[str, Any], *more: str) -> tuple[Any, dict[str, Any]]:
    """Return typed settings, and the values of names in ``more``."""
    names = [*kind.__struct_fields__, *more]
    values = given_settings(names, flags, os.environ, lists=("discovery",))
    extra = {name: values.pop(name) for name in more if name in values}
    try:
        return msgspec.convert(values, kind, strict=False, dec_hook=as_path), extra
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            subject="settings from the command line and the environment", reason=str(error)
        ) from error


async def _discovery(flags: Mapping[str, Any]) -> None:
    settings, _ = _settings(DiscoverySettings, flags)
    configure_logs(settings.log_level, settings.log_format)
    store = await _registry_store(settings.database) if settings.database else None
    _warn(shortages([]))
    server = DiscoveryServer(
        settings.host,
        settings.port,
        store=store,
        settle_s=settings.settle_s,
        tls=server_context(settings.tls_certificate, settings.tls_key),
    )
    async with _until_told() as stop, server:
        report(url=server.url)
        await stop.wait()
    _log.info("discovery has stopped")


def _warn(short: Iterable[Shortage]) -> None:
    for each in short:
        _log.warning("running short", of=each.name, reason=str(each))


async def _registry_store(url: str) -> RegistryStore:
    from headwater.discovery.postgres import PostgresRegistryStore

    return await PostgresRegistryStore.open(url)


async def _config(flags: Mapping[str, Any]) -> None:
    settings, _ = _settings(ConfigSettings, flags)
    configure_logs(settings.log_level, settings.log_format)
    from headwater.config.seed import tell_differences
    from headwater.config.server import ConfigServer

    _warn(shortages([settings.directory]))
    source = await _settings_store(settings) if settings.database else settings.directory
    tls = server_context(settings.tls_certificate, settings.tls_key)
    server = ConfigServer(source, settings.host, settings.port, tls=tls)
    async with _until_told() as stop, server:
        told: asyncio.Task[None] | None = None
        if settings.database and settings.directory.is_dir():
            differences = tell_differences(settings.directory, lambda: server.repository.state)
            told = asyncio.create_task(differences)
        report(url=server.url)
        await stop.wait()
        if told is not None:
            told.cancel()
    _log.info("configuration has stopped")


async def _settings_store(settings: ConfigSettings) -> SettingsStore:
    """Open the database; while it never had settings, it gets those of the directory."""
    from headwater.config.postgres import PostgresSettingsStore
    from headwater.config.seed import seed

    store = await PostgresSettingsStore.open(settings.database)
    try:
        if settings.directory.is_dir():
            await seed(store, settings.directory)
        if not (await store.read()).files:
            _log.warning("there are no settings yet: `headwater config push DIRECTORY`")
    except BaseException:
        await store.close()
        raise
    return store


async def _gateway(flags: Mapping[str, Any]) -> None:
    settings, extra = _settings(GatewaySettings, flags, "discovery", "log_format")
    level = settings.log_level if settings.log_level in ("debug", "info", "error") else "info"
    configure_logs(level, extra.get("log_format", "console"))
    urls = extra.get("discovery") or ["http://127.0.0.1:8761"]
    client = DiscoveryClient(urls, tls=client_context(settings.ca_file))
    _warn([*shortages([settings.data]), *spare_watchers()])
    async with _until_told() as stop:
        try:
            await _reach(client, settings)
            async with Gateway(settings, client) as gateway:
                told = asyncio.create_task(_tell(gateway, client))
                try:
                    await stop.wait()
                finally:
                    told.cancel()
        finally:
            await client.close()
    _log.info("gateway has stopped")


async def _reach(client: DiscoveryClient, settings: GatewaySettings) -> None:
    """Wait for a registry; a gateway that remembers what it served does not depend on one.

    Raises:
        StartupError: no registry answers, and there is nothing to serve.
    """
    try:
        await client.start()
    except StartupError as error:
        if not remembers(settings.data):
            raise
        _log.warning("the gateway serves what it remembers", reason=str(error))


async def _tell(gateway: Gateway, client: DiscoveryClient) -> None:
    """Report which services the gateway reaches, after each change in discovery."""
    if not supervised():
        return
    last: Any = None
    async for _ in client.changes():
        for _ in range(_LOOKS):
            status = gateway.status()
            now = (gateway.url, status.instances, status.pid)
            if now != last:
                last = now
                report(url=gateway.url, instances=status.instances, envoy=status.pid)
            await asyncio.sleep(_LOOK_S)


@contextlib.asynccontextmanager
async def _until_told() -> AsyncIterator[asyncio.Event]:
    """Give an event that SIGTERM, SIGINT and SIGHUP set."""
    yield stop_on_signals()
