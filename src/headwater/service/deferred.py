"""What is declared at import and works while the service runs: clients, and settings."""

import functools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from headwater.client import HttpCaller, Reply, Request, connect
from headwater.client.declarations import declaration_of
from headwater.config import Settings
from headwater.dispatch import QueryBus
from headwater.service.later import ServiceCommands

if TYPE_CHECKING:
    from headwater.client.transport import Stream

T = TypeVar("T")


class RunningInstance(Protocol):
    """A running instance of a service, as far as its handlers and clients use it."""

    commands: ServiceCommands
    queries: QueryBus
    caller: HttpCaller
    bound: Mapping["DeferredSettings[Any]", Settings[Any]]
    clients: Mapping[object, object]

    def observe_call(
        self, target: str, verb: str, template: str, status: int, seconds: float
    ) -> None:
        """Count a call to another service."""


Running = Callable[[], RunningInstance]
"""Returns the running instance; raises `ConfigurationError` when there is none."""


class _RunningCaller(HttpCaller):
    """Calls through whatever instance of the service runs at the moment."""

    def __init__(self, running: Running) -> None:
        super().__init__()
        self._running = running

    async def call(self, request: Request) -> Reply:
        """Call as the running instance's caller does."""
        return await self._running().caller.call(request)

    async def stream(self, request: Request) -> "Stream":
        """Open a stream as the running instance's caller does."""
        return await self._running().caller.stream(request)


def deferred_client(running: Running, contract: Callable[..., T]) -> T:
    """Return a client whose calls go through the running instance and into its metrics.

    Where the instance has somebody else to answer them, they go there.
    """

    def observe(target: str, verb: str, template: str, status: int, seconds: float) -> None:
        running().observe_call(target, verb, template, status, seconds)

    connected = connect(contract, caller=_RunningCaller(running), observe=observe)

    def redirected(name: str, declared: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(declared)
        def call(_: object, *args: Any, **kwargs: Any) -> Any:
            return getattr(running().clients.get(contract, connected), name)(*args, **kwargs)

        return call

    endpoints = declaration_of(contract).endpoints
    methods = {name: redirected(name, endpoint.function) for name, endpoint in endpoints.items()}
    client: T = type(type(connected).__name__, (type(connected),), methods)()
    return client


class DeferredSettings(Generic[T]):
    """Implements `Settings` for a section that is declared before there is a configuration.

    All of it raises `ConfigurationError` while the service is not running in this process.
    """

    def __init__(self, running: Running, kind: type[T], prefix: str) -> None:
        """Declare the section; it is bound and checked when the service starts."""
        self._running = running
        self.kind = kind
        self.prefix = prefix

    @property
    def _bound(self) -> Settings[T]:
        return self._running().bound[self]

    @property
    def current(self) -> T:
        """The newest valid value; it changes between two reads, without a restart."""
        return self._bound.current

    def changes(self) -> AsyncIterator[T]:
        """Yield the current value at once and each later one; a slow reader sees the newest."""
        return self._bound.changes()

    def on_change(self, callback: Callable[[T], object]) -> Callable[[], None]:
        """Call this with each later value, in the event loop; return what ends that."""
        return self._bound.on_change(callback)
