"""``headwater.toml``: the description of a whole system."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

import msgspec

from headwater._sql.postgres.url import SCHEMES, Place
from headwater.errors import ConfigurationError
from headwater.operations.documents import Document

Role = Literal["command", "query", "all"]


def _one() -> dict[Role, int]:
    return {"all": 1}


class SystemSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[system]``; paths are relative to the file. HEADWATER_DATA replaces ``data``.

    ``database`` is the URL of a PostgreSQL database that carries all event stores, view stores,
    the bus, the registry and the configuration instead of files; HEADWATER_DATABASE replaces it.
    Without a password in it, the driver takes PGPASSWORD or the password file.
    """

    name: str
    data: str = ".headwater"
    database: str = ""
    python_path: tuple[str, ...] = (".",)


class DiscoverySection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[discovery]``: where the registry listens, and where it keeps what it knows.

    ``database`` is that of ``[system]`` when it is not given; empty: in memory alone. One without a
    database says for ``settle_s`` seconds after its start that it may not have heard of everyone.
    """

    host: str = "127.0.0.1"
    port: int = 8761
    database: str | None = None
    settle_s: Annotated[float, msgspec.Meta(ge=0)] = 5.0


class ConfigSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[config]``: where the configuration service listens, and what it serves.

    ``database`` is that of ``[system]`` when it is not given; empty: the directory is served.
    """

    host: str = "127.0.0.1"
    port: int = 8888
    directory: str = "config"
    database: str | None = None
    profile: str = "default"


class BusSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[bus]``: the event bus that services share; an empty URL means none.

    HEADWATER_BUS replaces ``url``.
    """

    url: str = "sqlite:{data}/bus.db"
    partitions: int = 4


class ProcessorsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[processors]``: how often an event that fails is tried, in all services.

    They are the settings ``retry_...`` of `ServiceSettings`, which a service may have of its own.
    """

    attempts: int | None = None
    pause_s: float | None = None
    pause_max_s: float | None = None


class ServiceSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[services.<name>]``.

    ``settings`` are fields of `ServiceSettings`; ``environment`` is added to the instances' own.
    """

    app: str
    instances: dict[Role, int] = msgspec.field(default_factory=_one)
    settings: dict[str, Any] = {}
    environment: dict[str, str] = {}


class System(msgspec.Struct, frozen=True, kw_only=True):
    """A system, with absolute paths and every setting checked.

    ``gateway`` holds fields of `GatewaySettings`.
    """

    file: Path
    name: str
    data: Path
    python_path: tuple[Path, ...]
    gateway: dict[str, Any]
    discovery: DiscoverySection
    config: ConfigSection
    config_directory: Path
    bus: BusSection
    processors: ProcessorsSection
    services: dict[str, ServiceSection]
    database: str = ""

    @property
    def config_database(self) -> str:
        """URL of the database with the configuration; empty when the directory is served."""
        return self.database if self.config.database is None else self.config.database

    @property
    def discovery_database(self) -> str:
        """URL of the database that registries share; empty when there is one in memory."""
        return self.database if self.discovery.database is None else self.discovery.database

    def settings(self, service: str) -> dict[str, Any]:
        """Return the settings that the file gives to every instance of a service."""
        values: dict[str, Any] = {
            "service": service,
            "data": str(self.data),
            "bus": self.bus.url,
            "partitions": self.bus.partitions,
            "profiles": self.config.profile,
        }
        retry = msgspec.structs.asdict(self.processors)
        values |= {f"retry_{name}": value for name, value in retry.items() if value is not None}
        if self.database:
            values |= {"store": self.database, "views": self.database}
            if self.bus.url.startswith("sqlite:"):
                values["bus"] = self.database
        return values | self.services[service].settings


_FROM_SYSTEM = ("service", "instance", "role", "discovery", "config", "port")


def load_system(file: Path) -> System:
    """Read and check a system.

    Raises:
        ConfigurationError: the file is missing or wrong; says where and what is known.
    """
    from headwater.service.settings import ServiceSettings

    document = Document(file)
    sections = ("system", "gateway", "discovery", "config", "bus", "processors", "services")
    document.check_keys((), sections)
    head = document.section(("system",), SystemSection)
    folder = file.resolve().parent
    config = document.section(("config",), ConfigSection)
    services: dict[str, ServiceSection] = {}
    known = [name for name in ServiceSettings.__struct_fields__ if name not in _FROM_SYSTEM]
    for name in document.table(("services",)):
        keys = ("services", name)
        document.check_keys((*keys, "instances"), ("command", "query", "all"))
        services[name] = section = document.section(keys, ServiceSection)
        document.check_keys((*keys, "settings"), known)
        _check_service(document, keys, section)
        document.section((*keys, "settings"), ServiceSettings, service=name)
    if not services:
        raise ConfigurationError(
            subject=str(file), reason='no service: add [services.NAME] with app = "module:service"'
        )
    system = System(
        file=file.resolve(),
        name=head.name,
        data=folder / (os.environ.get("HEADWATER_DATA") or head.data),
        python_path=tuple(folder / path for path in head.python_path),
        gateway=_gateway(document),
        discovery=document.section(("discovery",), DiscoverySection),
        config=config,
        config_directory=folder / config.directory,
        bus=_bus(document),
        processors=document.section(("processors",), ProcessorsSection),
        services=services,
        database=os.environ.get("HEADWATER_DATABASE") or head.database,
    )
    _check_apart(document, system)
    return system


def _bus(document: Document) -> BusSection:
    section = document.section(("bus",), BusSection)
    return msgspec.structs.replace(section, url=os.environ.get("HEADWATER_BUS") or section.url)


def _check_apart(document: Document, system: System) -> None:
    """Check that each service keeps its data in a place of its own.

    Raises:
        ConfigurationError: two share one, for example because their names are one as a schema.
    """
    from headwater.service.settings import service_settings

    owners: dict[tuple[str, str], str] = {}
    for service in system.services:
        settings = service_settings(system.settings(service), origin=str(system.file))
        urls = [("store", url) for url in settings.stores] + [("views", settings.url("views"))]
        for engine, url in urls:
            place, port = _place(url)
            other = owners.setdefault((engine, place + port), service) if place else service
            if other != service:
                raise document.error(
                    ("services", service),
                    f"services {other!r} and {service!r} would keep their data in the same place, "
                    f"{place}: rename one of them, or give it a place of its own, for example "
                    f'{engine} = "{_other_place(url)}" in [services.{service}.settings]',
                )


def _place(url: str) -> tuple[str, str]:
    """Return where a store is, the same for the same; empty when it is in its own process."""
    scheme, _, path = url.partition(":")
    if scheme == "sqlite":
        return f"sqlite:{Path(path).resolve()}", ""
    if scheme not in SCHEMES:
        return "", ""
    port = dict(parse_qsl(urlsplit(url).query)).get("port", "")  # of a server on a socket
    return Place.parse(url).name, port


def _other_place(url: str) -> str:
    """Return what the URL of another place than this could look like."""
    if url.startswith("sqlite:"):
        return "sqlite:{data}/another/events.db"
    return f"{url.partition(':')[0]}://.../database?schema=another"


def _check_service(document: Document, keys: tuple[str, ...], section: ServiceSection) -> None:
    module, _, attribute = section.app.partition(":")
    if not module or not attribute:
        raise document.error(
            (*keys, "app"),
            f'app is {section.app!r}, expected "module:service", e.g. "bank.x:service"',
        )
    for role, count in section.instances.items():
        if not 0 <= count <= 100:
            raise document.error(
                (*keys, "instances"), f"instances.{role} is {count}, expected 0 to 100"
            )


def _gateway(document: Document) -> dict[str, Any]:
    from headwater.gateway.model import GatewaySettings

    try:
        document.section(("gateway",), GatewaySettings, data=Path())  # it is in [system] data
    except ConfigurationError as error:
        if error.subject.startswith("gateway."):  # a number out of its range
            key = error.subject.partition(".")[2]
            raise document.error(("gateway", key), f"{error.subject} {error.reason}") from error
        raise
    return document.table(("gateway",))
