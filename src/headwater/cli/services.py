"""``headwater services``: who is registered, from the discovery service."""

import asyncio
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from headwater.cli.logs import configure_logs
from headwater.cli.output import console
from headwater.cli.stores import DEFAULT_FILE
from headwater.cli.times import show_since

_COLORS = {"UP": "green", "STARTING": "yellow", "DRAINING": "yellow"}


def services(*, watch: bool = False, discovery: str = "", file: Path = DEFAULT_FILE) -> None:
    """List the instances that are registered.

    Parameters
    ----------
    watch
        Keep the table up to date until Ctrl-C.
    discovery
        URL of the discovery service; default: the one of the system.
    file
        The description of the system.
    """
    configure_logs("error")
    asyncio.run(_services(discovery or discovery_url(file), watch=watch))


def discovery_url(file: Path) -> str:
    """Return where the system's discovery service listens: as it runs, else as the file says."""
    if not file.exists():
        return "http://127.0.0.1:8761"
    from headwater.cli.system import load_system

    system = load_system(file)
    running = running_system(system.data)
    if running:
        return str(running["discovery"])
    return f"http://{system.discovery.host}:{system.discovery.port}"


def running_system(data: Path) -> dict[str, Any]:
    """Return what a running ``headwater up`` has written about itself; empty without one."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, KeyError):
        found: dict[str, Any] = msgspec.json.decode((data / "up.json").read_bytes())
        os.kill(found["supervisor"], 0)
        return found
    return {}


async def _services(url: str, *, watch: bool) -> None:
    from headwater.discovery import DiscoveryClient

    client = DiscoveryClient([url], start_timeout_s=3.0)
    try:
        await client.start()
        if not watch:
            console().print(table(client.services()))
            return
        from rich.live import Live

        with Live(table(client.services()), auto_refresh=False) as live:
            async for found in client.changes():
                live.update(table(found), refresh=True)
    finally:
        await client.close()


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
