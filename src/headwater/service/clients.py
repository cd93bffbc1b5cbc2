"""Clients of other services that are declared at import and work while the service runs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from headwater.client import HttpCaller, Reply, Request, connect

if TYPE_CHECKING:
    from headwater.client.transport import Stream
    from headwater.service.service import Service

T = TypeVar("T")


class _RuntimeCaller(HttpCaller):
    """Calls through whatever instance of the service runs at the moment."""

    def __init__(self, service: "Service") -> None:
        super().__init__()
        self._service = service

    async def call(self, request: Request) -> Reply:
        """Call as the running instance's caller does."""
        return await self._service.runtime.caller.call(request)

    async def stream(self, request: Request) -> "Stream":
        """Open a stream as the running instance's caller does."""
        return await self._service.runtime.caller.stream(request)


def late_client(service: "Service", contract: Callable[..., T]) -> T:
    """Return a client whose calls go through the running instance and into its metrics."""

    def observe(target: str, verb: str, template: str, status: int, seconds: float) -> None:
        service.runtime.metrics.client_call(target, verb, template, status, seconds)

    return connect(contract, caller=_RuntimeCaller(service), observe=observe)
