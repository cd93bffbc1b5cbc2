"""From registered instances to a routing table. Pure: the same input gives the same table.

A request goes only to instances that declared its route, so that in a rolling upgrade a new
route never meets an old program:

- ``command`` routes go to instances of role ``command`` or ``all``,
- ``query`` routes to those of role ``query`` or ``all``,
- ``http`` and ``stream`` routes to every instance that declared them.

Only ``UP`` instances receive requests; the routes of others stay known, so that a service that is
down answers "unavailable" and not "not found".
"""

import hashlib
import operator
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from headwater.discovery import Instance, RouteInfo
from headwater.gateway import templates
from headwater.gateway.model import Cluster, Endpoint, Route, RouteProblem, RoutingTable, Side

READS = ("GET", "HEAD")
RESERVED = ("/health/live", "/health/ready")
_SIDES: dict[str, Side] = {"command": "command", "query": "query"}


def build_table(
    services: Mapping[str, tuple[Instance, ...]],
    *,
    previous: RoutingTable | None = None,
    prefixes: bool = False,
) -> RoutingTable:
    """Return the routing table of the registered instances (see `TableBuilder`).

    Args:
        services: all known instances by service, of any status.
        previous: the table before; a service keeps the routes it owned there for as long as it
            declares them, so that restarting its instances does not hand them to a rival.
        prefixes: whether services are also reachable under ``/services/<service>/``.
    """
    builder = TableBuilder(prefixes=prefixes)
    builder.owners = dict(previous.owners) if previous is not None else {}
    return builder.build(services)


class _Declared(msgspec.Struct, frozen=True):
    """What the instances of one service declare: who, for each method and path shape."""

    instances: tuple[Instance, ...]
    claims: dict[str, list[tuple[Instance, RouteInfo]]]
    problems: tuple[RouteProblem, ...]


class _Part(msgspec.Struct, frozen=True):
    """What a table has of one service, which owns all that it declares but ``lost``."""

    declared: _Declared
    lost: frozenset[str]
    routes: tuple[Route, ...]
    clusters: dict[str, Cluster]
    prefix: tuple[str, str] | None


class TableBuilder:
    """Builds one table after the other; a service whose instances have not changed costs little.

    When two services declare one method and path, the one that registered first gets it, by the
    order of the registry (the lower name decides a tie), and keeps it for as long as it declares
    it; a problem is reported for the other.

    Attributes:
        owners: the service that got each method and path shape in the last table.
    """

    def __init__(self, *, prefixes: bool = False) -> None:
        """Know no service yet."""
        self.owners: dict[str, str] = {}
        self._prefixes = prefixes
        self._declared: dict[str, _Declared] = {}
        self._parts: dict[str, _Part] = {}
        self._routes: tuple[list[tuple[Route, ...]], tuple[Route, ...]] = ([], ())

    def build(
        self, services: Mapping[str, tuple[Instance, ...]], *, settling: bool = False
    ) -> RoutingTable:
        """Return the routing table of the registered instances."""
        old, self._declared = self._declared, {}
        for name in sorted(services):
            known = old.get(name)
            if known is None or known.instances != services[name]:
                known = _declare(name, services[name])
            self._declared[name] = known
        problems = [problem for found in self._declared.values() for problem in found.problems]
        lost = self._decide(problems)
        before, self._parts = self._parts, {}
        for name, found in self._declared.items():
            part, gone = before.get(name), frozenset(lost.get(name, ()))
            if part is None or part.declared is not found or part.lost != gone:
                part = _part(name, found, gone, prefixes=self._prefixes)
                if (was := before.get(name)) is not None:
                    part = _kept(part, was)
            self._parts[name] = part
        clusters = {n: c for part in self._parts.values() for n, c in part.clusters.items()}
        return RoutingTable(
            routes=self._ordered(),
            clusters=tuple([clusters[name] for name in sorted(clusters)]),
            problems=tuple(sorted(problems, key=lambda p: (p.path, p.method, p.service))),
            owners=self.owners,
            prefixes={n: part.prefix for n, part in self._parts.items() if part.prefix},
            settling=settling,
        )

    def _decide(self, problems: list[RouteProblem]) -> dict[str, set[str]]:
        """Choose the owners; return what each service lost to another, and tell the problems."""
        owners: dict[str, str] = {}
        rivals: dict[str, list[str]] = {}
        for name, found in self._declared.items():
            for identity in found.claims:
                if owners.setdefault(identity, name) != name:
                    rivals.setdefault(identity, [owners[identity]]).append(name)
        lost: dict[str, set[str]] = {}
        for identity, names in sorted(rivals.items()):
            claims = {name: self._declared[name].claims[identity] for name in names}
            kept = self.owners.get(identity)
            owner = kept if kept in claims else min(names, key=lambda n: (_first(claims[n]), n))
            owners[identity] = owner
            for name in names:
                if name != owner:
                    lost.setdefault(name, set()).add(identity)
                    reason = f"{owner!r} registered the same method and path first"
                    problems.append(_problem(name, claims[name][0][1], reason))
        self.owners = owners
        return lost

    def _ordered(self) -> tuple[Route, ...]:
        parts = [part.routes for part in self._parts.values()]
        if len(parts) != len(self._routes[0]) or any(map(operator.is_not, parts, self._routes[0])):
            routes = sorted((route for part in parts for route in part), key=_order)
            self._routes = parts, tuple(routes)
        return self._routes[1]


def _kept(part: _Part, before: _Part) -> _Part:
    """Return a part that shares with the one before what is equal."""
    known = before.clusters
    return msgspec.structs.replace(
        part,
        routes=before.routes if part.routes == before.routes else part.routes,
        clusters={n: known[n] if known.get(n) == c else c for n, c in part.clusters.items()},
    )


def _part(name: str, found: _Declared, lost: frozenset[str], *, prefixes: bool) -> _Part:
    clusters: dict[str, Cluster] = {}
    routes: list[Route] = []
    for identity, declared in found.claims.items():
        if identity not in lost:
            info = declared[-1][1]  # as the newest declares it
            cluster = _cluster(found.instances, declared, info, identity)
            clusters[cluster.name] = cluster
            routes.append(_route(info, cluster))
    prefix = _prefix(name, found.instances, clusters) if prefixes else None
    return _Part(found, lost, tuple(routes), clusters, prefix)


def _route(info: RouteInfo, cluster: Cluster) -> Route:
    return Route(
        method=info.method.upper(),
        path=info.path,
        kind=info.kind,
        service=cluster.service,
        cluster=cluster.name,
        key=info.key if info.key in templates.parameters(info.path) else "",
    )


def _order(route: Route) -> tuple[object, ...]:
    """Sort the most specific path first, then any named method before ``*``."""
    return templates.rank(route.path), route.method == "*", route.method


def _declare(service: str, instances: tuple[Instance, ...]) -> _Declared:
    claims: dict[str, list[tuple[Instance, RouteInfo]]] = defaultdict(list)
    problems: dict[RouteProblem, None] = {}
    for instance in sorted(instances, key=lambda i: (i.since, i.id)):
        for info in instance.routes:
            wrong = _fault(info)
            if wrong:
                problems[_problem(service, info, wrong)] = None
                continue
            side = _SIDES.get(info.kind, "any")
            if not _serves(instance, side):
                continue  # a query route that a command-only process happens to list
            claims[f"{info.method.upper()} {templates.shape(info.path)}"].append((instance, info))
    return _Declared(instances, dict(claims), tuple(problems))


def _fault(info: RouteInfo) -> str:
    if info.method != "*" and not info.method.isalpha():
        return f"{info.method!r} is not an HTTP method"
    if info.path in RESERVED:
        return "the gateway answers this path itself"
    return templates.fault(info.path)


def _problem(service: str, info: RouteInfo, reason: str) -> RouteProblem:
    return RouteProblem(method=info.method.upper(), path=info.path, service=service, reason=reason)


def _first(declared: Sequence[tuple[Instance, RouteInfo]]) -> int:
    return min(instance.since for instance, _ in declared)


def _serves(instance: Instance, side: Side) -> bool:
    return side == "any" or instance.role in (side, "all")


def _cluster(
    instances: Iterable[Instance],
    declared: Sequence[tuple[Instance, RouteInfo]],
    info: RouteInfo,
    identity: str,
) -> Cluster:
    """Return the cluster of one route: the service's shared one, or its own.

    A route declared by some but not all live instances of its side has a cluster of its own.
    """
    side = _SIDES.get(info.kind, "any")
    service = declared[0][0].service
    everyone = {i.id for i in instances if i.status == "UP" and _serves(i, side)}
    members = {i.id: i for i, _ in declared if i.status == "UP"}
    name = cluster_name(service, side)
    if set(members) != everyone:
        name += "." + hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()
    return Cluster(name=name, service=service, side=side, endpoints=_endpoints(members.values()))


def _endpoints(members: Iterable[Instance]) -> tuple[Endpoint, ...]:
    """Return the endpoints in an order of their own; an address has one instance."""
    return tuple(
        sorted(
            Endpoint(
                host=i.host,
                port=i.port,
                zone=i.zone,
                weight=max(1, i.weight),
                tls=i.scheme == "https",
                instance=i.id,
            )
            for i in members
        )
    )


def _prefix(
    service: str, instances: tuple[Instance, ...], clusters: dict[str, Cluster]
) -> tuple[str, str]:
    """Add the clusters for ``/services/<service>/`` and return those of reads and writes."""
    names: list[str] = []
    sides: tuple[Side, ...] = ("query", "command")
    for wanted in sides:
        side: Side = wanted if any(_serves(i, wanted) for i in instances) else "any"
        live = [i for i in instances if i.status == "UP" and _serves(i, side)]
        name = cluster_name(service, side)
        made = Cluster(name=name, service=service, side=side, endpoints=_endpoints(live))
        clusters.setdefault(name, made)
        names.append(name)
    return names[0], names[1]


def cluster_name(service: str, side: Side) -> str:
    """Return the name of a service's shared cluster: unique, and fit for files and statistics."""
    plain = "-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return "".join(c if c in plain else f"~{ord(c):x}~" for c in service) + f".{side}"
