"""``headwater services``: who is registered, from the discovery service."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headwater.cli.logs import run_quietly
from headwater.cli.terminal import console
from headwater.cli.times import show_since
from headwater.operations.instances import (
    discovery_url,
    gateway_report,
    gateway_url,
    registered,
)
from headwater.operations.stores import DEFAULT_FILE

_COLORS = {"UP": "green", "STARTING": "yellow", "DRAINING": "yellow"}


def services(
    *, watch: bool = False, discovery: str = "", gateway: str = "", file: Path = DEFAULT_FILE
) -> None:
    """List the instances that are registered, and what the gateway does not serve of them.

    Parameters
    ----------
    watch
        Keep the table up to date until Ctrl-C.
    discovery
        URL of the discovery service; default: the one of the system.
    gateway
        URL of the gateway; default: the one of the system, none with ``--discovery``.
    file
        The description of the system.
    """
    front = gateway or ("" if discovery else gateway_url(file))
    run_quietly(_services(discovery or discovery_url(file), front, watch=watch))


async def _services(url: str, gateway: str, *, watch: bool) -> None:
    async with registered(url) as client:
        if not watch:
            console().print(table(client.services()))
            for line in await gateway_lines(gateway):
                console().print(line)
            return
        from rich.console import Group
        from rich.live import Live

        with Live(table(client.services()), auto_refresh=False) as live:
            async for found in client.changes():
                live.update(Group(table(found), *await gateway_lines(gateway)), refresh=True)


async def gateway_lines(url: str) -> list[str]:
    """Return in lines what a gateway says that is not as it should be."""
    if not url:
        return []
    from rich.markup import escape

    told = await gateway_report(url)
    if told.failure:
        return [f"[red]gateway {escape(url)} does not answer[/]: {escape(told.failure)}"]
    color = "yellow" if told.problems else "green"
    head = f"gateway {escape(url)} is [{color}]{escape(told.status)}[/]"
    return [head, *(f"  {escape(f'{what}: {why}')}" for what, why in told.problems.items())]


def table(found: Mapping[str, Any]) -> Any:
    """Return the table of all instances."""
    from rich import box
    from rich.table import Table

    columns = ("service", "instance", "role", "status", "address", "since", "version")
    shown = Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for service in sorted(found):
        for instance in sorted(found[service], key=lambda i: str(i.id)):
            color = _COLORS.get(instance.status, "red")
            shown.add_row(
                service,
                instance.id,
                instance.role,
                f"[{color}]{instance.status}[/]",
                f"{instance.host}:{instance.port}",
                show_since(instance.started),
                instance.version,
            )
    return shown
