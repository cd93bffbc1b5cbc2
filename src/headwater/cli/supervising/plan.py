"""From a system to the processes that make it up, and the ports they need."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Literal

import msgspec

from headwater._os.ports import held_port
from headwater.errors import ConfigurationError
from headwater.operations.system import System

Kind = Literal["config", "discovery", "gateway", "instance"]

_MAY_HOLD_PASSWORDS = ("store", "views", "bus", "amqp", "database")


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Where the platform listens: host and port of each part."""

    gateway: tuple[str, int]
    discovery: tuple[str, int]
    config: tuple[str, int]

    def url(self, part: Literal["gateway", "discovery", "config"]) -> str:
        """Return the base URL of a part, as seen from this machine."""
        host, port = getattr(self, part)
        return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104  # compared


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One process: what it is, and the arguments of ``headwater`` that start it.

    Passwords are in its environment, never in its arguments.
    """

    name: str
    kind: Kind
    arguments: tuple[str, ...]
    service: str = ""
    role: str = ""
    environment: Mapping[str, str] = {}
    drain_s: float = 0.0


def choose_ports(system: System, given: Mapping[str, int | None], *, held: ExitStack) -> Ports:
    """Return the ports of the platform: given on the command line, else in the file; 0 is chosen.

    On Linux sockets that do not listen hold them until ``held`` is closed, so that the system gives
    none of them to another process before a part is started, or while it is started again.

    Raises:
        AddressInUse: another process listens on one.
        ConfigurationError: two parts have the same port, or an address cannot be used.
    """
    wanted = {
        "gateway": (system.gateway.get("host", "127.0.0.1"), system.gateway.get("port", 8080)),
        "discovery": (system.discovery.host, system.discovery.port),
        "config": (system.config.host, system.config.port),
    }
    chosen: dict[str, tuple[str, int]] = {}
    with ExitStack() as bound:
        for part, (host, configured) in wanted.items():
            own = given.get(part)
            port = configured if own is None else own
            for other, address in chosen.items():
                if port and address[1] == port:
                    raise ConfigurationError(
                        subject=str(system.file),
                        reason=f"{other} and {part} both have port {port}: change one",
                    )
            chosen[part] = (host, held_port(host, port, bound))
        if sys.platform == "linux":  # elsewhere nobody could listen beside them
            held.push(bound.pop_all())
    return Ports(**chosen)


def plan(system: System, ports: Ports) -> list[Part]:
    """Return the processes of a system, those first that others wait for.

    Raises:
        ConfigurationError: two would have the same name.
    """
    gateway = {
        "service_prefix": True,
        **system.gateway,
        "data": str(system.data / "gateway"),
        "discovery": ports.url("discovery"),
    }
    parts = [
        _platform(
            "discovery",
            ports.discovery,
            {"database": system.discovery_database, "settle_s": system.discovery.settle_s},
        ),
        _platform(
            "config",
            ports.config,
            {"directory": str(system.config_directory), "database": system.config_database},
        ),
        _platform("gateway", ports.gateway, gateway),
    ]
    for service, section in system.services.items():
        for role, count in section.instances.items():
            parts += [_instance(system, ports, service, role, n + 1) for n in range(count)]
    _check_names(system, parts)
    return parts


def _check_names(system: System, parts: list[Part]) -> None:
    named: dict[str, Part] = {}
    for part in parts:
        other = named.setdefault(part.name, part)
        if other is not part:
            raise ConfigurationError(
                subject=str(system.file),
                reason=f"an instance of service {other.service!r} and one of {part.service!r} "
                f"would both be called {part.name!r}: rename one of the services",
            )


def _platform(kind: Kind, address: tuple[str, int], values: dict[str, Any]) -> Part:
    host, port = address
    flags, hidden = _told({**values, "host": host, "port": port})
    drain_s = float(values.get("drain_timeout_s", 10.0)) if kind == "gateway" else 3.0
    return Part(
        name=kind,
        kind=kind,
        arguments=("run", kind, *flags),
        environment=hidden,
        drain_s=drain_s,
    )


def _instance(system: System, ports: Ports, service: str, role: str, number: int) -> Part:
    section = system.services[service]
    name = f"{service}-{number}" if role == "all" else f"{service}-{role}-{number}"
    values = {
        "port": 0,
        **system.settings(service),
        "role": role,
        "instance": name,
        "discovery": ports.url("discovery"),
        "config": ports.url("config"),
    }
    values.pop("service")
    flags, hidden = _told(values)
    return Part(
        name=name,
        kind="instance",
        arguments=("run", section.app, *flags),
        service=service,
        role=role,
        environment={**section.environment, **hidden},
        drain_s=float(section.settings.get("drain_s", 10.0)),
    )


def _told(values: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Return settings as arguments, and those that may hold a password as environment.

    Everybody on the machine can read the arguments, only the same user the environment.
    """
    flags: list[str] = []
    hidden: dict[str, str] = {}
    for name, value in values.items():
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        if name in _MAY_HOLD_PASSWORDS:
            hidden[f"HEADWATER_{name.upper()}"] = text
        else:
            flags += ["--set", f"{name}={text}"]
    return flags, hidden
