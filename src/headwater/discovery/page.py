"""The registry's status page: who is up, since when, with which routes."""

from datetime import UTC, datetime

from headwater._http.page import Html, document, table, tag
from headwater.discovery.api import Instance
from headwater.discovery.registry import Registry
from headwater.discovery.sharing import SharingStatus


def render(registry: Registry, sharing: SharingStatus | None = None) -> str:
    """Return the page as HTML."""
    services = registry.services()
    count = sum(len(instances) for instances in services.values())
    live = sum(len(registry.live(service)) for service in services)
    parts = [
        tag(
            "p",
            f"{live} of {count} instances of {len(services)} services are up; "
            f"revision {registry.revision}.",
        )
    ]
    if sharing is not None and sharing.error:
        known = f"It goes on in memory alone, with {sharing.waiting} changes to be stored: "
        parts.append(tag("p", known + sharing.error, "bad"))
    elif sharing is not None:
        parts.append(tag("p", f"Shared with all registries on {sharing.name}."))
    for service, instances in services.items():
        parts.append(tag("h2", service))
        parts.append(
            table(
                ["instance", "status", "role", "address", "zone", "version", "since", "lease"],
                [_row(registry, instance) for instance in instances],
            )
        )
        parts.append(_routes(instances))
    if not services:
        parts.append(tag("p", "Nothing is registered yet: start a service.", "dim"))
    return document("Headwater discovery", *parts)


def _row(registry: Registry, instance: Instance) -> list[object]:
    lease, left_s = registry.lease(instance.id)
    since = datetime.fromtimestamp(instance.started / 1_000_000, UTC)
    if lease.expired:
        left = f"ran out; removed in {max(0.0, left_s):.0f} s"
    elif lease.holder:
        left = f"{instance.lease_s:g} s, watched by registry {lease.holder}"
    else:
        left = f"{max(0.0, left_s):.1f} of {instance.lease_s:g} s left"
    status = instance.status + (" (set by an operator)" if lease.override else "")
    return [
        tag("code", instance.id),
        tag("span", status, "good" if instance.status == "UP" else "bad"),
        instance.role,
        tag("code", instance.url),
        instance.zone or "-",
        instance.version or "-",
        f"{since:%Y-%m-%d %H:%M:%S} UTC",
        left,
    ]


def _routes(instances: tuple[Instance, ...]) -> Html:
    routes = sorted(
        {route for i in instances for route in i.routes}, key=lambda r: (r.path, r.method)
    )
    if not routes:
        return Html("")
    rows = [
        [tag("code", route.method), tag("code", route.path), route.kind, route.message or "-"]
        for route in routes
    ]
    return Html(
        f"<details><summary>{len(rows)} routes</summary>"
        + table(["method", "path", "kind", "message"], rows)
        + "</details>"
    )


__all__ = ["render"]
