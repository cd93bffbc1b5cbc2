"""Brings Envoy from one routing table to the next, and leaves out what it refuses.

A route must not name a cluster that is not there, so a change goes in stages, each of which Envoy
has accepted before the next begins::

    endpoints and clusters, old and new → routes → clusters, new only

When Envoy refuses a stage, what is new in it is narrowed down by halves until the faulty part is
found; that is left out and named, and all else is served.
"""

import operator
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from headwater.errors import ConfigurationError
from headwater.gateway.ads import Control, Refused
from headwater.gateway.envoy import EDS, cluster, load_assignment
from headwater.gateway.envoy_routes import ROUTES as NAME
from headwater.gateway.envoy_routes import sections, virtual_host
from headwater.gateway.model import (
    Cluster,
    Endpoint,
    GatewaySettings,
    InstanceProblem,
    Route,
    RouteProblem,
    RoutingTable,
)
from headwater.gateway.wire import (
    CLUSTERS,
    ENDPOINTS,
    LOAD_ASSIGNMENT_FIELD,
    ROUTE,
    ROUTES,
    ROUTES_FIELD,
    VIRTUAL_HOST,
    VIRTUAL_HOSTS_FIELD,
    Resource,
    encode,
    field,
    resource,
    response,
)

_log = structlog.get_logger("headwater.gateway")
Part = Route | Cluster | Endpoint
"""What can be left out; of a cluster only what makes it different, its endpoints are none of it."""


class _Encoder:
    """Encodes what has changed; what has not is the same object as before."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._clusters: dict[str, tuple[Cluster, Cluster, Resource]] = {}
        self._endpoints: dict[str, tuple[Cluster, tuple[str, ...], Resource]] = {}
        self._addresses: Mapping[str, str] = {}
        self._sections: dict[Hashable, bytes] = {}
        self._routes: tuple[tuple[object, ...], dict[str, Resource]] = ((), {})

    def clusters(self, table: RoutingTable) -> dict[str, Resource]:
        old, self._clusters = self._clusters, {}
        for entry in table.clusters:
            known = old.get(entry.name)
            if known is None or known[0] is not entry:
                shape = _shape(entry)
                same = known is not None and known[1] == shape
                made = known[2] if known and same else self._cluster(shape)
                known = entry, shape, made
            self._clusters[entry.name] = known
        return {name: known[2] for name, known in self._clusters.items()}

    def endpoints(self, table: RoutingTable, addresses: Mapping[str, str]) -> dict[str, Resource]:
        old, self._endpoints = self._endpoints, {}
        moved, self._addresses = _moved(self._addresses, addresses), addresses
        for entry in table.clusters:
            known = old.get(entry.name)
            if known is not None and known[0] is entry and not moved:
                self._endpoints[entry.name] = known
                continue
            at = tuple([addresses.get(endpoint.host, "") for endpoint in entry.endpoints])
            if known is None or known[1] != at or known[0] != entry:
                document = load_assignment(entry, self._settings, addresses)
                made = resource(encode(ENDPOINTS, document))
                known = entry, at, made
            self._endpoints[entry.name] = known
        return {name: known[2] for name, known in self._endpoints.items()}

    def routes(self, table: RoutingTable) -> dict[str, Resource]:
        content = (table.routes, table.prefixes, table.settling)
        if self._routes[0] != content:
            old, self._sections = self._sections, {}
            for key, make in sections(table, self._settings):
                known = old.get(key)
                self._sections[key] = _encode_routes(make()) if known is None else known
            host = encode(VIRTUAL_HOST, virtual_host(self._settings))
            name = encode(ROUTES, {"name": NAME})
            whole = field(VIRTUAL_HOSTS_FIELD, host, *self._sections.values())
            self._routes = content, {NAME: resource(name, whole)}
        return self._routes[1]

    def _cluster(self, shape: Cluster) -> Resource:
        return resource(encode(CLUSTERS, cluster(shape, self._settings)), _EDS)


def _moved(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """Whether a host that was known is elsewhere now, or nowhere."""
    return any(map(operator.ne, old.values(), map(new.get, old)))


_EDS = encode(CLUSTERS, EDS)


def _encode_routes(entries: list[dict[str, Any]]) -> bytes:
    return b"".join(field(ROUTES_FIELD, encode(ROUTE, entry)) for entry in entries)


def as_files(wanted: Mapping[str, Mapping[str, Resource]]) -> tuple[bytes, bytes]:
    """Return what is wanted as two files that Envoy can be started with: routes, and clusters."""
    endpoints = wanted[ENDPOINTS]
    whole = (
        found.body.removesuffix(_EDS) + field(LOAD_ASSIGNMENT_FIELD, endpoints[name].body)
        for name, found in wanted[CLUSTERS].items()
    )
    routes = (found.body for found in wanted[ROUTES].values())
    return response(ROUTES, routes), response(CLUSTERS, whole)


class Publisher:
    """What Envoy serves, and what it does not take. One `publish` at a time.

    Attributes:
        accepted: the table that Envoy serves.
        resources: the same as Envoy was told it, by type and name.
    """

    def __init__(self, settings: GatewaySettings, control: Control) -> None:
        """Nothing is published yet."""
        self.accepted = RoutingTable()
        self.resources: dict[str, Mapping[str, Resource]] = {}
        self._control = control
        self._timeout_s = settings.confirm_timeout_s
        self._encoder = _Encoder(settings)
        self._refused: dict[Part, str] = {}

    async def publish(self, table: RoutingTable, addresses: Mapping[str, str]) -> bool:
        """Bring Envoy to serve a table, without what it refuses; return whether that is a change.

        What is left out is among the problems of `accepted`. Until all stages are through,
        requests may meet parts of the new table.

        Raises:
            ConfigurationError: Envoy refuses what it had accepted before.
            DeadlineExceeded, Unavailable: Envoy did not take it over; what it had accepted is
                wanted again.
        """
        before = dict(self._control.wanted)
        if self._refused:
            parts = set(_parts(table))
            self._refused = {p: r for p, r in self._refused.items() if p in parts}
        try:
            while True:
                found = leave_out(table, self._refused)
                try:
                    await self._stages(found, addresses)
                except Refused as refused:
                    await self._blame(found, addresses, refused)
                else:
                    break
        except BaseException:
            for kind, resources in before.items():
                self._control.want(kind, resources)
            raise
        self.accepted, self.resources = found, dict(self._control.wanted)
        return before != self.resources

    async def _stages(self, table: RoutingTable, addresses: Mapping[str, str]) -> None:
        control, encoder = self._control, self._encoder
        clusters, endpoints = encoder.clusters(table), encoder.endpoints(table, addresses)
        routes, old = encoder.routes(table), control.wanted
        if clusters == old[CLUSTERS] and routes == old[ROUTES]:  # as for most changes
            control.want(ENDPOINTS, endpoints)
            await control.settled(ENDPOINTS, timeout_s=self._timeout_s)
            return
        control.want(ENDPOINTS, {**old[ENDPOINTS], **endpoints})
        control.want(CLUSTERS, {**old[CLUSTERS], **clusters})
        await control.settled(CLUSTERS, ENDPOINTS, timeout_s=self._timeout_s)
        control.want(ROUTES, routes)
        await control.settled(ROUTES, timeout_s=self._timeout_s)
        control.want(CLUSTERS, clusters)
        control.want(ENDPOINTS, endpoints)
        await control.settled(CLUSTERS, ENDPOINTS, timeout_s=self._timeout_s)

    async def _blame(
        self, table: RoutingTable, addresses: Mapping[str, str], refused: Refused
    ) -> None:
        """Find one part of a refused table that Envoy does not take, and note it."""
        suspects = _suspects(table, self.accepted, refused)
        if not suspects:
            raise ConfigurationError(
                subject="gateway", reason=f"Envoy refuses what it served before: {refused.reason}"
            )
        good, bad = 0, len(suspects)
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                tried = leave_out(table, dict.fromkeys(suspects[middle:], ""))
                await self._stages(tried, addresses)
            except Refused as again:
                bad, refused = middle, again
            else:
                good = middle
        culprit = suspects[bad - 1]
        _log.error("Envoy refuses a part of the configuration", part=culprit, reason=refused.reason)
        self._refused[culprit] = refused.reason


def leave_out(table: RoutingTable, refused: Mapping[Part, str]) -> RoutingTable:
    """Return a table without some parts; they are among its problems, with the reasons given."""
    if not refused:
        return table
    lost = {entry.name for entry in table.clusters if _shape(entry) in refused}
    reasons = {entry.name: refused[_shape(entry)] for entry in table.clusters if entry.name in lost}
    problems, faulty, routes = list(table.problems), list(table.faulty), []
    for route in table.routes:
        if route in refused or route.cluster in lost:
            why = refused[route] if route in refused else reasons[route.cluster]
            problems.append(RouteProblem(route.method, route.path, route.service, _told(why)))
        else:
            routes.append(route)
    clusters = []
    for entry in table.clusters:
        if entry.name in lost:
            continue
        kept = tuple(endpoint for endpoint in entry.endpoints if endpoint not in refused)
        for endpoint in entry.endpoints:
            problem = InstanceProblem(entry.service, endpoint.instance, "")
            if endpoint in refused:
                told = msgspec.structs.replace(problem, reason=_told(refused[endpoint]))
                faulty += [] if told in faulty else [told]
        same = len(kept) == len(entry.endpoints)
        clusters.append(entry if same else msgspec.structs.replace(entry, endpoints=kept))
    return msgspec.structs.replace(
        table,
        routes=tuple(routes),
        clusters=tuple(clusters),
        problems=tuple(problems),
        faulty=tuple(faulty),
        prefixes={s: pair for s, pair in table.prefixes.items() if not lost & set(pair)},
    )


def _suspects(table: RoutingTable, accepted: RoutingTable, refused: Refused) -> Sequence[Part]:
    """Return what is new in a table, of what was refused."""
    known = set(_parts(accepted))
    part_of: dict[str, Callable[[], Iterable[Part]]] = {
        ROUTES: lambda: table.routes,
        CLUSTERS: lambda: (_shape(c) for c in table.clusters if c.name in refused.names),
        ENDPOINTS: lambda: (
            e for c in table.clusters if c.name in refused.names for e in c.endpoints
        ),
    }
    return [part for part in dict.fromkeys(part_of[refused.kind]()) if part not in known]


def _parts(table: RoutingTable) -> Iterable[Part]:
    yield from table.routes
    for entry in table.clusters:
        yield _shape(entry)
        yield from entry.endpoints


def _shape(entry: Cluster) -> Cluster:
    """Return a cluster with no more of its endpoints than makes it what it is."""
    tls = any(endpoint.tls for endpoint in entry.endpoints)
    some = (Endpoint("", 0, tls=True),) if tls else ()
    return msgspec.structs.replace(entry, endpoints=some)


def _told(reason: str) -> str:
    return f"Envoy refuses it: {reason}: correct what the service registers"
