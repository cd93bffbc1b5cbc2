"""Which instances are registered, and what the gateway does not serve of them."""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from headwater.discovery import DiscoveryClient, Instance
from headwater.operations.system import load_system

_GATEWAY_S = 3.0
_START_S = 3.0
_DISCOVERY = "http://127.0.0.1:8761"

Services = Mapping[str, tuple[Instance, ...]]


class GatewayReport(msgspec.Struct, frozen=True):
    """What a gateway says of itself.

    Attributes:
        url: its base URL.
        status: in one word; empty when it does not answer.
        problems: what is not as it should be, and why.
        failure: why it does not answer; empty when it does.
    """

    url: str
    status: str = ""
    problems: dict[str, str] = {}
    failure: str = ""


def gateway_url(file: Path) -> str:
    """Return where the gateway of the running system listens; empty without one.

    Raises:
        ConfigurationError: the description of the system is wrong.
    """
    if not file.exists():
        return ""
    return str(running_system(load_system(file).data).get("gateway", ""))


def discovery_url(file: Path) -> str:
    """Return where the system's discovery service listens: as it runs, else as the file says.

    Raises:
        ConfigurationError: the description of the system is wrong.
    """
    if not file.exists():
        return _DISCOVERY
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


@contextlib.asynccontextmanager
async def registered(url: str) -> AsyncIterator[DiscoveryClient]:
    """Ask a discovery service: `services` is what is registered, `changes` what comes.

    Raises:
        StartupError: it does not answer.
    """
    client = DiscoveryClient([url], start_timeout_s=_START_S)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


async def gateway_report(url: str) -> GatewayReport:
    """Return what a gateway says of itself, within seconds."""
    import aiohttp

    from headwater._http.session import http_session

    try:
        async with (
            http_session(total_timeout_s=_GATEWAY_S) as session,
            session.get(f"{url}/health/ready") as answer,
        ):
            told = msgspec.json.decode(await answer.read())
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
        return GatewayReport(url, failure=str(error) or type(error).__name__)
    status = str(told.get("status", answer.status))
    return GatewayReport(url, status, {k: str(v) for k, v in (told.get("problems") or {}).items()})
