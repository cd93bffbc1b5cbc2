"""``headwater services``: who is registered, from the discovery service."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from headwater.cli.logs import run_quietly
from headwater.cli.terminal import console
from headwater.cli.times import show_since
from headwater.operations.stores import DEFAULT_FILE

_GATEWAY_S = 3.0
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
    front = gateway or ("" if discovery else _gateway_url(file))
    run_quietly(_services(discovery or discovery_url(file), front, watch=watch))


def _gateway_url(file: Path) -> str:
    """Return where the gateway of the running system listens; empty without one."""
    if not file.exists():
        return ""
    from headwater.operations.system import load_system

    return str(running_system(load_system(file).data).get("gateway", ""))


def discovery_url(file: Path) -> str:
    """Return where the system's discovery service listens: as it runs, else as the file says."""
    if not file.exists():
        return "http://127.0.0.1:8761"
    from headwater.operations.system import load_system

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


async def _services(url: str, gateway: str, *, watch: bool) -> None:
    from headwater.discovery import DiscoveryClient

    client = DiscoveryClient([url], start_timeout_s=3.0)
    try:
        await client.start()
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
    finally:
        await client.close()


async def gateway_lines(url: str) -> list[str]:
    """Return in lines what a gateway says that is not as it should be."""
    if not url:
        return []
    import aiohttp
    from rich.markup import escape

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_GATEWAY_S)) as session,
            session.get(f"{url}/health/ready") as answer,
        ):
            told = msgspec.json.decode(await answer.read())
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
        reason = str(error) or type(error).__name__
        return [f"[red]gateway {escape(url)} does not answer[/]: {escape(reason)}"]
    problems = told.get("problems") or {}
    word = escape(str(told.get("status", answer.status)))
    head = f"gateway {escape(url)} is [{'yellow' if problems else 'green'}]{word}[/]"
    return [head, *(f"  {escape(f'{what}: {why}')}" for what, why in problems.items())]


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
