"""Which service a message is for, when names meet between services."""

import pytest

from headwater.discovery import Instance, RouteInfo, StaticDiscovery
from headwater.dispatch.remote import MessageDirectory
from headwater.errors import ConfigurationError, UnknownMessage


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
