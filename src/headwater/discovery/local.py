"""Discovery without a registry service: inside one process, or from a fixed list."""

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from urllib.parse import urlsplit

import msgspec

from headwater._http.signal import Signal
from headwater.discovery.api import Instance, Standing
from headwater.discovery.registry import Change, Registry
from headwater.discovery.table import InstanceTable
from headwater.errors import ConfigurationError, InstanceNotFound


class LocalDiscovery:
    """A registry in this process. Registrations last until they are removed: no leases.

    Give several of them one registry to let parts of a test find each other.
    """

    def __init__(self, registry: Registry | None = None) -> None:
        """Use this registry, or a new one."""
        self.registry = registry or Registry()
        self._own: set[str] = set()
        self._signal = Signal()
        self.registry.listen(self._beat)

    async def start(self) -> None:
        """Nothing to do: it is always there."""

    async def register(self, instance: Instance) -> None:
        """Register at once.

        Raises:
            MalformedMessage: a field has no sensible value.
        """
        self.registry.register(instance)
        self._own.add(instance.id)

    async def update(self, instance: Instance) -> None:
        """Replace the registration of the same id, at once."""
        await self.register(instance)

    async def deregister(self, id: str) -> None:
        """Remove at once; absent is fine."""
        self._own.discard(id)
        with contextlib.suppress(InstanceNotFound):
            self.registry.deregister(id)

    def instances(self, service: str, *, role: str = "") -> tuple[Instance, ...]:
        """Return the UP instances of a service; with a role also those of role ``all``."""
        return self.registry.live(service, role)

    def services(self) -> Mapping[str, tuple[Instance, ...]]:
        """Return all known instances by service, of any status."""
        return self.registry.services()

    def standing(self) -> Standing:
        """Return that it is complete: nobody else can register."""
        return Standing()

    async def changes(self) -> AsyncIterator[Mapping[str, tuple[Instance, ...]]]:
        """Yield `services` at once, and again after each change, for ever."""
        while True:
            following = self._signal.next
            yield self.registry.services()
            await following.wait()

    async def close(self) -> None:
        """Remove what was registered through this object. Twice is fine."""
        for id in list(self._own):
            await self.deregister(id)

    def _beat(self, _: Change) -> None:
        self._signal.send()


class StaticDiscovery:
    """A fixed list, for services that are not ours and for tests. Registering changes nothing."""

    def __init__(self, services: Mapping[str, Iterable[str | Instance]]) -> None:
        """Know these services: name to base URLs (``http://host:port``) or instances.

        Raises:
            ConfigurationError: a URL has no host.
        """
        self._table = InstanceTable(
            msgspec.structs.replace(entry, service=name)
            if isinstance(entry, Instance)
            else _from_url(name, entry)
            for name, entries in services.items()
            for entry in entries
        )

    async def start(self) -> None:
        """Nothing to do: it is always there."""

    async def register(self, instance: Instance) -> None:
        """Nothing: the list is fixed."""

    async def update(self, instance: Instance) -> None:
        """Nothing: the list is fixed."""

    async def deregister(self, id: str) -> None:
        """Nothing: the list is fixed."""

    def instances(self, service: str, *, role: str = "") -> tuple[Instance, ...]:
        """Return the UP instances of a service; with a role also those of role ``all``."""
        return self._table.live(service, role)

    def services(self) -> Mapping[str, tuple[Instance, ...]]:
        """Return all instances by service."""
        return self._table.services()

    def standing(self) -> Standing:
        """Return that it is complete: nobody else can register."""
        return Standing()

    async def changes(self) -> AsyncIterator[Mapping[str, tuple[Instance, ...]]]:
        """Yield `services` once, then wait for ever."""
        yield self._table.services()
        await Signal().next.wait()

    async def close(self) -> None:
        """Nothing to do."""


def _from_url(service: str, url: str) -> Instance:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(
            subject=f"service {service!r}", reason=f"{url!r} is no URL: use http://host:port"
        )
    https = parts.scheme == "https"
    port = parts.port or (443 if https else 80)
    return Instance(
        service=service,
        id=f"{service}@{parts.hostname}:{port}",
        host=parts.hostname,
        port=port,
        scheme="https" if https else "http",
    )


__all__ = ["LocalDiscovery", "StaticDiscovery"]
