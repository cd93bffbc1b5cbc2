"""The gateway: one port for all services, with Envoy as its data plane.

`Gateway` loads when it is used, so that reading settings stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headwater.gateway.model import (
    GatewaySettings,
    GatewayStatus,
    InstanceProblem,
    RouteProblem,
)

if TYPE_CHECKING:
    from headwater.gateway.server import Gateway


def __getattr__(name: str) -> Any:
    """Load `Gateway` on first use."""
    if name != "Gateway":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("headwater.gateway.server").Gateway


__all__ = ["Gateway", "GatewaySettings", "GatewayStatus", "InstanceProblem", "RouteProblem"]
