"""Discovery: every service registers when it starts; others locate it here.

The client and the server load their libraries when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headwater.discovery.api import (
    Discovery,
    Entry,
    Instance,
    Mark,
    Record,
    Records,
    RegistryStore,
    RouteInfo,
    Standing,
    Status,
)
from headwater.discovery.local import LocalDiscovery, StaticDiscovery

if TYPE_CHECKING:
    from headwater.discovery.client import DiscoveryClient
    from headwater.discovery.server import DiscoveryServer

_HOMES = {
    "DiscoveryClient": "headwater.discovery.client",
    "DiscoveryServer": "headwater.discovery.server",
}


def __getattr__(name: str) -> Any:
    """Load a name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


__all__ = [
    "Discovery",
    "DiscoveryClient",
    "DiscoveryServer",
    "Entry",
    "Instance",
    "LocalDiscovery",
    "Mark",
    "Record",
    "Records",
    "RegistryStore",
    "RouteInfo",
    "Standing",
    "StaticDiscovery",
    "Status",
]
