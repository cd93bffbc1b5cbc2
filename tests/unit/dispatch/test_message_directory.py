"""Which service a message is for, when names meet between services."""

import pytest

from headwater.discovery import (
    Instance,
    LocalDiscovery,
    RouteInfo,
    Standing,
    StaticDiscovery,
)
from headwater.dispatch.remote import MessageDirectory
from headwater.errors import ConfigurationError, NotKnownYet, UnknownMessage


def instance(service: str, *routes: RouteInfo, number: int = 1) -> Instance:
    return Instance(service, f"{service}-{number}", "127.0.0.1", number, routes=routes)


CREATE = RouteInfo("POST", "/commands/Create", "command", "Create")
TRANSFER = RouteInfo("POST", "/transfers", "command", "Transfer")
ASK_TRANSFER = RouteInfo("GET", "/transfers/{id}", "query", "Transfer")


def test_a_command_of_two_services() -> None:
    """A command that two services handle goes to neither, and both are named with the remedy."""
    discovery = StaticDiscovery(
        {
            "orders": [instance("orders", CREATE, number=n) for n in (1, 2)],
            "stock": [instance("stock", CREATE)],
        }
    )
    with pytest.raises(ConfigurationError) as refused:
        MessageDirectory(discovery).service_of("Create")
    assert "command 'Create': is handled by services 'orders' and 'stock'" in str(refused.value)
    assert "@wire" in str(refused.value)


def test_a_command_and_a_query_of_one_name() -> None:
    """A command of one service and a query of another may have the same name."""
    discovery = StaticDiscovery(
        {"a": [instance("a", TRANSFER)], "b": [instance("b", ASK_TRANSFER)]}
    )
    assert MessageDirectory(discovery).service_of("Transfer") == "a"
    assert MessageDirectory(discovery, "query").service_of("Transfer") == "b"
    with pytest.raises(UnknownMessage):
        MessageDirectory(discovery, "query").service_of("Create")


PAY = Instance(
    service="payments",
    id="p",
    host="127.0.0.1",
    port=1,
    routes=(RouteInfo("POST", "/payments", "command", "Pay"),),
)


class Registry(LocalDiscovery):
    """A registry whose standing the test dictates."""

    now = Standing()

    def standing(self) -> Standing:
        return self.now


@pytest.mark.parametrize("standing", [Standing(settling_s=3.0), Standing(unheard_s=0.1)])
async def test_unknown_while_settling(standing):
    """While not everyone was heard, or nobody is, what is unknown is unavailable for a while."""
    registry = Registry()
    directory = MessageDirectory(registry)
    with pytest.raises(UnknownMessage):
        directory.service_of("Pay")
    registry.now = standing
    with pytest.raises(NotKnownYet, match="who handles 'Pay'") as caught:
        directory.service_of("Pay")
    assert caught.value.status == 503
    assert caught.value.retry_after_s >= 1.0
    await registry.register(PAY)
    assert directory.service_of("Pay") == "payments"
    await registry.deregister("p")
    assert directory.service_of("Pay") == "payments"
