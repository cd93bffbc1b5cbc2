"""Envoy's admin interface: readiness, statistics, drain; and whether a change was accepted."""

import asyncio
import re
import time
from collections.abc import Mapping

from headwater.errors import ConfigurationError, DeadlineExceeded, Unavailable

_REFUSALS = r"update_(rejected|failure)$"
_WATCHED = r"(version_text|update_rejected|update_failure|warming_clusters)$"
_POLL_S = 0.005


class Admin:
    """A client of one Envoy's admin interface. Every call is bounded by ``timeout_s``."""

    def __init__(self, address: str, *, timeout_s: float = 2.0) -> None:
        """Make a client; must be called within a running event loop. `close` it."""
        import aiohttp

        self.address = address
        self._session = aiohttp.ClientSession(
            f"http://{address}", timeout=aiohttp.ClientTimeout(total=timeout_s)
        )
        self._refused: dict[str, int] = {}

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def get(self, path: str) -> tuple[int, str]:
        """Return the status and body of a GET.

        Raises:
            Unavailable: Envoy cannot be reached.
        """
        return await self._request("GET", path)

    async def post(self, path: str) -> tuple[int, str]:
        """Return the status and body of a POST.

        Raises:
            Unavailable: Envoy cannot be reached.
        """
        return await self._request("POST", path)

    async def _request(self, method: str, path: str) -> tuple[int, str]:
        import aiohttp

        try:
            async with self._session.request(method, path) as response:
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable from error

    async def ready(self) -> bool:
        """Return whether Envoy serves its configuration."""
        try:
            return (await self.get("/ready"))[0] == 200
        except Unavailable:
            return False

    async def statistics(self, pattern: str) -> dict[str, str]:
        """Return the statistics whose names match a regular expression, with their values.

        Raises:
            Unavailable: Envoy cannot be reached.
        """
        _, body = await self._request("GET", f"/stats?filter={pattern}")
        lines = (line.split(": ", 1) for line in body.splitlines())
        return {pair[0]: pair[1].strip('"') for pair in lines if len(pair) == 2}

    async def active_requests(self, prefix: str) -> int:
        """Return the number of requests in progress."""
        name = f"http.{prefix}.downstream_rq_active"
        found = await self.statistics(f"^{re.escape(name)}$")
        return int(found.get(name, "0"))

    async def confirm(self, versions: Mapping[str, str], *, timeout_s: float) -> None:
        """Wait until Envoy serves these versions, and every cluster is ready.

        Raises:
            ConfigurationError: Envoy refused a file since the last call.
            DeadlineExceeded: Envoy did not take it over within ``timeout_s``.
            Unavailable: Envoy cannot be reached.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = await self.statistics(_WATCHED)
            refused = {n: int(v) for n, v in found.items() if re.search(_REFUSALS, n)}
            worse = [n for n, count in refused.items() if count > self._refused.get(n, 0)]
            self._refused = refused
            if worse:
                raise ConfigurationError(
                    subject="gateway", reason=f"Envoy refused the change ({', '.join(worse)})"
                )
            behind = [name for name, value in versions.items() if found.get(name) != value]
            if not behind and found.get("cluster_manager.warming_clusters") == "0":
                return
            if time.monotonic() > deadline:
                what = ", ".join(behind) or "a cluster is still warming"
                raise DeadlineExceeded(
                    action=f"taking over the changed configuration in Envoy ({what})",
                    timeout_s=timeout_s,
                )
            await asyncio.sleep(_POLL_S)
