"""What a remote bus makes of answers that are not what the contract says."""

import pytest
from aiohttp import web

from headwater.client import HttpCaller
from headwater.discovery import Instance, RouteInfo, StaticDiscovery
from headwater.dispatch.remote import RemoteCommandBus
from headwater.errors import RemoteError
from tests.integration.service.shop import AddItem


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (200, b"{}"), (302, b""), (500, b"\xff")]
)
async def test_odd_answer_is_a_remote_error(status, body):
    """An odd answer is a fault of the other side: a saga retries it and takes it for no refusal."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_post("/items", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    routes = (RouteInfo("POST", "/items", "command", "AddItem"),)
    instance = Instance("shop", "s1", "127.0.0.1", port, routes=routes)
    discovery = StaticDiscovery({"shop": [instance]})
    caller = HttpCaller(discovery)
    try:
        with pytest.raises(RemoteError, match="shop") as raised:
            await RemoteCommandBus(caller, discovery, retries=0).send(AddItem("i", "Bach"))
        assert raised.value.remote_status == status
    finally:
        await caller.close()
        await runner.cleanup()
