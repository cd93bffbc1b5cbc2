"""What ``headwater services`` says of the gateway."""

import msgspec
from aiohttp import web
from rich.text import Text

from headwater.cli.commands.services import gateway_lines
from headwater.gateway import GatewayStatus, InstanceProblem, RouteProblem
from headwater.gateway.readiness import answer
from tests.ports import HeldPort


async def lines_of(status: GatewayStatus) -> list[str]:
    """Return what is said of a gateway of this status."""
    code, body = answer(status)

    async def ready(_: web.Request) -> web.Response:
        return web.Response(status=code, body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/health/ready", ready)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        found = await gateway_lines(f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()
    return [Text.from_markup(line).plain for line in found]


async def test_what_is_not_served_is_listed():
    """Every problem of the gateway is a line: a refused change, routes, instances, discovery."""
    status = GatewayStatus(
        state="serving",
        problems=(RouteProblem("GET", "/a[b]", "shop", "Envoy refuses it"),),
        faulty=(InstanceProblem("shop", "shop-1", "its host cannot be resolved"),),
        rejected="all of it",
        unheard_s=20.0,
    )
    head, *rest = await lines_of(status)
    assert head.endswith(" is degraded")
    assert [line.strip() for line in rest] == [
        "configuration: the last change is not served: all of it",
        "discovery: no registry has answered for 20 s; what was registered before is served",
        "instance shop-1: shop: its host cannot be resolved",
        "route GET /a[b]: shop: Envoy refuses it",
    ]


async def test_a_gateway_without_problems():
    """One line says that it is ready."""
    (head,) = await lines_of(GatewayStatus(state="serving"))
    assert head.endswith(" is ready")


async def test_a_stopping_gateway_is_not_ready():
    """While it drains it is not ready, and says so."""
    status = GatewayStatus(state="draining")
    assert answer(status)[0] == 503
    assert msgspec.json.decode(answer(status)[1])["status"] == "not ready"


async def test_a_gateway_that_is_away():
    """Whatever keeps it from answering is said; without a gateway there is nothing to say."""
    with HeldPort() as port:
        (line,) = await gateway_lines(f"http://127.0.0.1:{port}")
    assert "does not answer" in line
    assert await gateway_lines("") == []
