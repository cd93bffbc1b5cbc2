"""What is declared at import and works while the service runs: clients, and settings."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from headwater.client import HttpCaller, Reply, Request, connect
from headwater.client.declarations import declaration_of

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


def deferred_client(service: "Service", contract: Callable[..., T]) -> T:
    """Return a client whose calls go through the running instance and into its metrics.

    Where the instance's surroundings have somebody else to answer them, they go there.
    """

    def observe(target: str, verb: str, template: str, status: int, seconds: float) -> None:
        service.runtime.metrics.client_call(target, verb, template, status, seconds)

    connected = connect(contract, caller=_RuntimeCaller(service), observe=observe)

    def redirected(name: str, declared: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(declared)
        def call(_: object, *args: Any, **kwargs: Any) -> Any:
            answering = service.runtime.surroundings.clients.get(contract, connected)
            return getattr(answering, name)(*args, **kwargs)

        return call

    endpoints = declaration_of(contract).endpoints
    methods = {name: redirected(name, endpoint.function) for name, endpoint in endpoints.items()}
    client: T = type(type(connected).__name__, (type(connected),), methods)()
    return client


class DeferredSettings(Generic[T]):
    """A typed section of the configuration; `current` is always the newest valid value."""

    def __init__(self, service: "Service", kind: type[T], prefix: str) -> None:
        """Declare the section; it is bound and checked when the service starts."""
        self._service = service
        self.kind = kind
        self.prefix = prefix

    @property
    def current(self) -> T:
        """The newest valid value; it changes between two reads, without a restart.

        Raises:
            ConfigurationError: the service is not running in this process.
        """
        value: T = self._service.runtime.bound[self].current
        return value
