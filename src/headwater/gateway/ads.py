"""The stream on which Envoy learns its configuration: aggregated, incremental discovery (xDS).

Envoy connects over a Unix socket; it is told what differs from what it has, and confirms or refuses
each answer. A reconnecting Envoy says what it has; a new one is told everything.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from grpclib.const import Cardinality, Handler
from grpclib.server import Server, Stream

from headwater._http.signal import Signal, wait_for
from headwater.errors import DeadlineExceeded, Unavailable
from headwater.gateway import wire
from headwater.gateway.wire import CLUSTERS, ENDPOINTS, ROUTES, Resource

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_MESSAGES = "envoy.service.discovery.v3."
_AT_ONCE = 500  # resources in one answer: Envoy applies an answer without a pause
_ORDER = (CLUSTERS, ENDPOINTS, ROUTES)
_Request = wire.kind(_MESSAGES + "DeltaDiscoveryRequest")
_Response = wire.kind(_MESSAGES + "DeltaDiscoveryResponse")


class Refused(Exception):
    """Envoy refused a part of what it was told; it keeps what it had."""

    def __init__(self, kind: str, names: Iterable[str], reason: str) -> None:
        """State the type of the refused resources, their names, and Envoy's own words."""
        super().__init__(reason)
        self.kind = kind
        self.names = frozenset(names)
        self.reason = reason


class _Known:
    """What one Envoy has of one type of resources."""

    def __init__(self) -> None:
        self.everything = False
        self.greeted = False  # who asks for everything is answered even if there is nothing
        self.names: set[str] = set()
        self.sent: dict[str, str] = {}
        self.accepted: dict[str, str] = {}
        self.waiting: dict[str, dict[str, str]] = {}  # by nonce: versions by name

    def wants(self, name: str) -> bool:
        return self.everything or name in self.names

    def forget(self, names: Iterable[str]) -> None:
        for name in names:
            self.sent.pop(name, None)
            self.accepted.pop(name, None)


class Control:
    """Tells Envoy what is wanted. One Envoy at a time: the one that connected last counts.

    Attributes:
        wanted: the resources by name, for each type; see `want`.
    """

    def __init__(self) -> None:
        """Want nothing yet."""
        self.wanted: dict[str, Mapping[str, Resource]] = {kind: {} for kind in _ORDER}
        self._known: dict[str, _Known] | None = None
        self._stream: object = None
        self._refused: Refused | None = None
        self._held: set[str] = set()  # refused as they are wanted: not told again
        self._signal = Signal()
        self._progress = 0
        self._answers = 0
        self._server: Server | None = None

    async def start(self, socket: Path) -> None:
        """Listen on a Unix socket, which is in a directory for this user only."""
        self._server = Server([self])
        await self._server.start(path=str(socket))

    async def close(self) -> None:
        """Drop the connections. Twice is fine."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()

    def want(self, kind: str, resources: Mapping[str, Resource]) -> None:
        """From now on tell Envoy these resources of a type; the mapping is not copied."""
        self.wanted[kind] = resources
        self._held.discard(kind)
        self._signal.send()

    async def settled(self, *kinds: str, timeout_s: float) -> None:
        """Return when Envoy has accepted what is wanted of these types.

        Args:
            kinds: the types.
            timeout_s: how long Envoy may be silent.

        Raises:
            Refused: it refuses a part.
            DeadlineExceeded: it said nothing for too long.
            Unavailable: it is not connected, and did not come within that time.
        """
        while True:
            following, progress = self._signal.next, self._progress
            refused, self._refused = self._refused, None
            if refused is not None:
                raise refused
            if self._known is not None and all(self._has(kind) for kind in kinds):
                return
            until = time.monotonic() + timeout_s
            while self._progress == progress and self._refused is None:
                if not await wait_for(following, until - time.monotonic()):
                    if self._known is None:
                        raise Unavailable
                    action = "taking over the changed configuration in Envoy"
                    raise DeadlineExceeded(action=action, timeout_s=timeout_s)
                following = self._signal.next

    def _has(self, kind: str) -> bool:
        assert self._known is not None
        known, wanted = self._known[kind], self.wanted[kind]
        if known.waiting or len(known.accepted) != len(wanted):
            return False
        accepted = known.accepted
        return all(accepted.get(name) == found.version for name, found in wanted.items())

    def __mapping__(self) -> dict[str, Handler]:
        """Say which calls are answered."""
        handler = Handler(self._talk, Cardinality.STREAM_STREAM, _Request, _Response)
        return {f"/{_SERVICE}/DeltaAggregatedResources": handler}

    async def _talk(self, stream: Stream[Any, Any]) -> None:
        """Talk to one Envoy until it goes."""
        known = {kind: _Known() for kind in _ORDER}
        self._stream, self._known, self._refused = stream, known, None
        self._held.clear()
        self._beat()
        telling = asyncio.create_task(self._tell(stream, known), name="tell Envoy")
        try:
            async for request in stream:
                if self._stream is stream:
                    self._take(request, known)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            if self._stream is stream:
                self._stream = self._known = None
                self._beat()

    def _take(self, request: Any, known: dict[str, _Known]) -> None:
        """Note what Envoy asks for, accepts or refuses."""
        found = known.get(request.type_url)
        if found is None:
            return
        first = not (found.everything or found.names)
        if first:
            versions = dict(request.initial_resource_versions)
            found.sent, found.accepted = dict(versions), versions
        found.names.update(request.resource_names_subscribe)
        found.forget(request.resource_names_subscribe if not first else ())
        found.names.difference_update(request.resource_names_unsubscribe)
        found.forget(request.resource_names_unsubscribe)
        if request.type_url == CLUSTERS:
            found.everything = True
        versions = found.waiting.pop(request.response_nonce, {})
        wanted = self.wanted[request.type_url]
        if request.HasField("error_detail"):
            reason = request.error_detail.message
            found.forget(versions)  # Envoy may have taken over some of it
            if any(n in wanted and wanted[n].version == v for n, v in versions.items()):
                self._refused = Refused(request.type_url, versions, reason)
                self._held.add(request.type_url)
        else:
            for name, version in versions.items():
                if version:
                    found.accepted[name] = version
                elif name not in wanted:
                    found.accepted.pop(name, None)
        self._beat()

    async def _tell(self, stream: Stream[Any, Any], known: dict[str, _Known]) -> None:
        while True:
            following = self._signal.next
            for kind in _ORDER:
                if kind not in self._held:
                    await self._tell_changes(stream, kind, known)
            await following.wait()

    async def _tell_changes(
        self, stream: Stream[Any, Any], kind: str, known: dict[str, _Known]
    ) -> None:
        found, wanted = known[kind], self.wanted[kind]
        changed = [
            name
            for name, resource in wanted.items()
            if found.sent.get(name) != resource.version and found.wants(name)
        ]
        gone = [name for name in found.sent if name not in wanted]
        if kind == ENDPOINTS:  # they go with their clusters
            found.forget(gone)
            gone = []
        first = found.everything and not found.greeted
        for at in range(0, len(changed) or bool(gone) or first, _AT_ONCE):
            found.greeted = True
            names = changed[at : at + _AT_ONCE]
            versions = {name: wanted[name].version for name in names}
            self._answers += 1
            nonce = str(self._answers)
            response: Any = _Response(type_url=kind, nonce=nonce, removed_resources=gone)
            for name in names:
                entry = response.resources.add(name=name, version=versions[name])
                entry.resource.type_url, entry.resource.value = kind, wanted[name].body
            found.waiting[nonce] = versions | dict.fromkeys(gone, "")
            found.sent.update(versions)
            for name in gone:
                del found.sent[name]
            gone = []
            if kind == CLUSTERS:  # a changed cluster waits for its endpoints again
                known[ENDPOINTS].forget(names)
            await stream.send_message(response)

    def _beat(self) -> None:
        self._progress += 1
        self._signal.send()
