"""Says how the gateway is, on the Unix socket behind ``/health/ready``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from headwater.gateway.model import GatewayStatus

LOST_S = 10.0
"""A registry that is away for less is on its way back."""


def problems(status: GatewayStatus) -> dict[str, str]:
    """Return what keeps the gateway from being as it should, by what is concerned."""
    found: dict[str, str] = {}
    if status.state != "serving":
        found["envoy"] = f"is {status.state}"
    if status.rejected:
        found["configuration"] = f"the last change is not served: {status.rejected}"
    if status.unheard_s > LOST_S:
        away = f"no registry has answered for {status.unheard_s:.0f} s"
        found["discovery"] = f"{away}; what was registered before is served"
    elif status.settling:
        found["discovery"] = "the registry has not heard from everyone since it came up"
    for fault in status.faulty:
        found[f"instance {fault.instance}"] = f"{fault.service}: {fault.reason}"
    for route in status.problems:
        found[f"route {route.method} {route.path}"] = f"{route.service}: {route.reason}"
    return found


def answer(status: GatewayStatus) -> tuple[int, bytes]:
    """Return the status and body of ``/health/ready``.

    With problems it is degraded, but ready: it serves all else.
    """
    found = problems(status)
    stopping = status.state in ("stopped", "draining")
    word = "not ready" if stopping else "degraded" if found else "ready"
    content: dict[str, Any] = {
        "status": word,
        "problems": found,
        "state": status.state,
        "routes": status.routes,
        "instances": sum(status.instances.values()),
        "restarts": status.restarts,
    }
    return 503 if stopping else 200, msgspec.json.encode(content)


class Readiness:
    """The server on the socket."""

    def __init__(self, status: Callable[[], GatewayStatus]) -> None:
        """Say what this returns."""
        self._status = status
        self._runner: web.AppRunner | None = None

    async def start(self, socket: Path) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.UnixSite(self._runner, socket).start()

    async def close(self) -> None:
        """Stop. Twice is fine."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer(self, _: web.Request) -> web.Response:
        status, body = answer(self._status())
        return web.Response(status=status, body=body, content_type="application/json")
