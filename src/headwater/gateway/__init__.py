"""The gateway: one port for all services, with Envoy as its data plane."""

from headwater.gateway.model import GatewaySettings, GatewayStatus, RouteProblem
from headwater.gateway.server import Gateway

__all__ = ["Gateway", "GatewaySettings", "GatewayStatus", "RouteProblem"]
