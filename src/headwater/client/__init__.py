"""HTTP calls to other services: found through discovery, balanced, retried where safe."""

from headwater.client.http import HttpCaller
from headwater.client.messages import Reply, Request

__all__ = ["HttpCaller", "Reply", "Request"]
