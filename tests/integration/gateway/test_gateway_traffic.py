"""Requests through a real Envoy to real processes."""

import asyncio

from headwater.errors import (
    DeadlineExceeded,
    NoInstance,
    RemoteError,
    RouteNotFound,
    TooLarge,
    from_problem,
)

from .conftest import routed


async def test_route_by_template(gateway, registry, upstream, http):
    """A request reaches the service that declared its method and path."""
    one = await upstream("one")
    await registry.put(one.instance())
    await routed(gateway, accounts=1)
    async with http.post(f"{gateway.url}/accounts/7/deposits", data=b"abc") as answer:
        seen = await answer.json()
        assert answer.headers["server"] == "headwater"
    assert (seen["name"], seen["path"], seen["bytes"]) == ("one", "/accounts/7/deposits", 3)
