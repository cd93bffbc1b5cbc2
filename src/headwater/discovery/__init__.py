"""Discovery: every service registers when it starts; others locate it here."""

from headwater.discovery.api import Discovery, Instance, RouteInfo, Status

__all__ = ["Discovery", "Instance", "RouteInfo", "Status"]
