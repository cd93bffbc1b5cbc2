"""Service: the composition root, its lifecycle and its HTTP edge."""

from headwater.service.authentication import EdgeRequest
from headwater.service.later import ServiceCommands
from headwater.service.service import Service
from headwater.service.settings import Role, ServiceSettings

__all__ = ["EdgeRequest", "Role", "Service", "ServiceCommands", "ServiceSettings"]
