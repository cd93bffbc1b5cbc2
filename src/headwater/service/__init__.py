"""Service: the composition root, its lifecycle and its HTTP edge."""

from headwater.service.service import Service
from headwater.service.settings import Role, ServiceSettings

__all__ = ["Role", "Service", "ServiceSettings"]
