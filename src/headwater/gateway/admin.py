"""Envoy's admin interface: readiness, statistics, drain."""

import re

from headwater.errors import Unavailable


class Admin:
    """A client of one Envoy's admin interface. Every call is bounded by ``timeout_s``."""

    def __init__(self, address: str, *, timeout_s: float = 2.0) -> None:
        """Make a client; must be called within a running event loop. `close` it."""
        from headwater._http.session import http_session

        self.address = address
        self._session = http_session(f"http://{address}", total_timeout_s=timeout_s)

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
