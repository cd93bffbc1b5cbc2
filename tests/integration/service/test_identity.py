"""An instance answers for its own service only, and says where it is reached."""

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from headwater.discovery import DiscoveryClient, DiscoveryServer
from headwater.errors import ConfigurationError
from headwater.messages.headers import SERVICE
from headwater.service.runtime import Runtime
from tests.integration.service.shop import make_service

ITEM = {"item_id": "i1", "title": "Bach", "stock": 1}


async def test_a_request_for_another_service_is_not_carried_out(http, runtime):
    """Whatever the path, it is answered 421 and nothing is done; one for this service is."""
    async with http.post("/items", json=ITEM, headers={SERVICE: "payments"}) as answer:
        problem = await answer.json()
    assert (answer.status, problem["code"]) == (421, "wrong-service")
    assert problem["outcome"] == "not stored"
    assert problem["fields"]["expected"] == "payments"
    for path in ("/items/i1", "/health/live", "/nowhere"):
        async with http.get(path, headers={SERVICE: "payments"}) as answer:
            assert answer.status == 421
    assert await runtime.store.head() == 0
    own = {SERVICE: runtime.settings.service}
    async with http.post("/items", json=ITEM, headers=own) as answer:
        assert answer.status == 200


async def test_a_socket_for_another_service_is_not_opened(runtime):
    """A WebSocket that is meant for another service is refused at its handshake."""
    url = runtime.url.replace("http", "ws") + "/socket"
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, additional_headers={SERVICE: "payments"}):
            pass
    assert caught.value.response.status_code == 421


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
async def test_every_address_is_never_told(tmp_path, host):
    """Who listens on every address is registered at one that others can reach."""
    async with DiscoveryServer() as registry:
        given = {"data": str(tmp_path), "host": host, "discovery": [registry.url]}
        async with Runtime(make_service(), given), DiscoveryClient(registry.url) as client:
            (instance,) = next(iter(client.services().values()))
            assert instance.host == "127.0.0.1"  # from there it reaches this registry


async def test_every_address_cannot_be_advertised(tmp_path):
    """To tell others to reach every address is refused at the start, with the remedy."""
    given = {"data": str(tmp_path), "advertise": "0.0.0.0"}
    with pytest.raises(ConfigurationError, match="name the one that others reach"):
        await Runtime(make_service(), given).start()
