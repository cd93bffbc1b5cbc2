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
from collections import defaultdict
from collections.abc import Iterable, Mapping

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
    """Return the routing table of the registered instances.

    Args:
        services: all known instances by service, of any status.
        previous: the table before; a service keeps the routes it owned there for as long as it
            declares them, so that restarting its instances does not hand them to a rival.
        prefixes: whether services are also reachable under ``/services/<service>/``.

    When two services declare one method and path, the one that registered first gets it (the
    lower name decides a tie), and a problem is reported for the other.
    """
    claims, problems = _claims(services)
    clusters: dict[str, Cluster] = {}
    routes: list[Route] = []
    owners: dict[str, str] = {}
    for identity, rivals in sorted(claims.items()):
        before = previous.owners.get(identity) if previous is not None else None
        owner = before if before in rivals else min(rivals, key=lambda s: (_first(rivals[s]), s))
        owners[identity] = owner
        problems.extend(
            _problem(rival, pairs[0][1], f"{owner!r} registered the same method and path first")
            for rival, pairs in rivals.items()
            if rival != owner
        )
        declared = rivals[owner]
        info = max(declared, key=lambda pair: (pair[0].started, pair[0].id))[1]
        cluster = _cluster(services[owner], declared, info, identity)
        clusters[cluster.name] = cluster
        routes.append(_route(info, cluster))
    offered = _prefixes(services, clusters) if prefixes else {}
    return RoutingTable(
        routes=tuple(sorted(routes, key=_order)),
        clusters=tuple(clusters[name] for name in sorted(clusters)),
        problems=tuple(sorted(problems, key=lambda p: (p.path, p.method, p.service))),
        owners=owners,
        prefixes=offered,
    )


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


_Declared = list[tuple[Instance, RouteInfo]]


def _claims(
    services: Mapping[str, tuple[Instance, ...]],
) -> tuple[dict[str, dict[str, _Declared]], list[RouteProblem]]:
    """Return who declares what, by method and path shape, then by service."""
    claims: dict[str, dict[str, _Declared]] = defaultdict(lambda: defaultdict(list))
    problems: dict[RouteProblem, None] = {}
    for service in sorted(services):
        for instance in sorted(services[service], key=lambda i: (i.started, i.id)):
            for info in instance.routes:
                wrong = _fault(info)
                if wrong:
                    problems[_problem(service, info, wrong)] = None
                    continue
                side = _SIDES.get(info.kind, "any")
                if not _serves(instance, side):
                    continue  # a query route that a command-only process happens to list
                identity = f"{info.method.upper()} {templates.shape(info.path)}"
                claims[identity][service].append((instance, info))
    return claims, list(problems)


def _fault(info: RouteInfo) -> str:
    if info.method != "*" and not info.method.isalpha():
        return f"{info.method!r} is not an HTTP method"
    if info.path in RESERVED:
        return "the gateway answers this path itself"
    return templates.fault(info.path)


def _problem(service: str, info: RouteInfo, reason: str) -> RouteProblem:
    return RouteProblem(method=info.method.upper(), path=info.path, service=service, reason=reason)


def _first(declared: _Declared) -> int:
    return min(instance.started for instance, _ in declared)


def _serves(instance: Instance, side: Side) -> bool:
    return side == "any" or instance.role in (side, "all")


def _cluster(
    instances: Iterable[Instance], declared: _Declared, info: RouteInfo, identity: str
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
    """Return one endpoint per address; the newest registration of an address counts."""
    newest: dict[tuple[str, int], Instance] = {}
    for member in sorted(members, key=lambda i: (i.started, i.id)):
        newest[member.host, member.port] = member
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
            for i in newest.values()
        )
    )


def _prefixes(
    services: Mapping[str, tuple[Instance, ...]], clusters: dict[str, Cluster]
) -> dict[str, tuple[str, str]]:
    """Add the clusters for ``/services/<service>/`` and return those of reads and writes."""
    offered: dict[str, tuple[str, str]] = {}
    for service in sorted(services):
        names: list[str] = []
        sides: tuple[Side, ...] = ("query", "command")
        for wanted in sides:
            known = any(_serves(i, wanted) for i in services[service])
            side: Side = wanted if known else "any"
            live = [i for i in services[service] if i.status == "UP" and _serves(i, side)]
            name = cluster_name(service, side)
            clusters.setdefault(
                name,
                Cluster(name=name, service=service, side=side, endpoints=_endpoints(live)),
            )
            names.append(name)
        offered[service] = (names[0], names[1])
    return offered


def cluster_name(service: str, side: Side) -> str:
    """Return the name of a service's shared cluster: unique, and fit for files and statistics."""
    plain = "-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return "".join(c if c in plain else f"~{ord(c):x}~" for c in service) + f".{side}"
