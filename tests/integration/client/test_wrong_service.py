"""A request that reaches an instance of another service is not carried out, and finds its own."""

import pytest
from aiohttp import web

from headwater.client import Request
from headwater.errors import WrongService
from headwater.messages.headers import SERVICE
from tests.integration.client.conftest import Handler, MakeBackend, MakeCaller


def of(service: str, carried_out: list[str]) -> Handler:
    """Answer as an instance of a service does."""

    async def answer(request: web.Request) -> web.StreamResponse:
        wanted = request.headers[SERVICE]
        if wanted != service:
            problem = WrongService(expected=wanted, actual=service).to_problem()
            return web.json_response(problem, status=421)
        carried_out.append(service)
        return web.Response(text=service)

    return answer


@pytest.mark.parametrize(("method", "retries"), [("POST", 0), ("GET", 3), ("PUT", 1)])
async def test_the_caller_tries_another_instance(
    method: str, retries: int, backend: MakeBackend, caller: MakeCaller
) -> None:
    """Whatever the method, and without a retry allowed, the right instance carries it out once."""
    done: list[str] = []
    await backend(of("payments", done), name="wrong")
    await backend(of("shop", done), name="right")
    made = caller()
    for count in range(1, 21):
        reply = await made.call(Request(method, "/x", service="shop", retries=retries))
        assert (reply.status, reply.body) == (200, b"shop")
        assert done == ["shop"] * count


async def test_only_wrong_instances(backend: MakeBackend, caller: MakeCaller) -> None:
    """When there is none of the service, the error says so: nothing was stored, try again."""
    await backend(of("payments", []), name="wrong")
    with pytest.raises(WrongService, match="of 'payments', the request is for 'shop'") as caught:
        await caller().call(Request("POST", "/x", service="shop", retries=3))
    assert caught.value.outcome == "not stored"


async def test_a_base_url_says_nothing(backend: MakeBackend, caller: MakeCaller) -> None:
    """Who calls a base URL means whoever answers there."""
    server = await backend(register=False)
    await caller().call(Request("GET", "/x", url=server.url))
    assert SERVICE not in server.seen[0].headers
