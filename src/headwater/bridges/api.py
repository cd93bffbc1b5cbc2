"""What a bridge is: something declared, and what runs of it in an instance."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from headwater.eventstore import StreamStore
from headwater.messages import Codec
from headwater.modelling.foreign import ForeignSource
from headwater.processing import LocalStatus, ProcessorSettings, RelayStatus
from headwater.processing.generations.own_views import OwnViews
from headwater.views import ViewStore


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What a bridge finds in its instance.

    Attributes:
        service: the service's name.
        url: where the broker is, with credentials; empty: nothing is set.
        owner: names this process.
        views: where progress, and what was received, is kept.
        store: the events of the service; None: it has none.
        own: through what handlers read views.
        codec: opens the contents of events.
        settings: how processors work.
    """

    service: str
    url: str
    owner: str
    views: ViewStore
    store: StreamStore | None
    own: OwnViews
    codec: Codec | None
    settings: ProcessorSettings


class Bridge(Protocol):
    """What runs of a bridge. ``failure`` is what keeps it from working, empty when nothing does.

    Its broker may be away, at the start too: it works as soon as the broker is there.
    """

    name: str

    @property
    def failure(self) -> str:
        """What keeps it from working at the moment."""

    async def start(self) -> None:
        """Begin to work.

        Raises:
            ConfigurationError: it can never work as it is set.
            StoreUnavailable: a database of the service is away.
        """

    async def stop(self) -> None:
        """Finish what is at hand, and close the connection. Twice is fine."""

    async def status(self) -> LocalStatus | RelayStatus:
        """Return what it does in this process."""


@runtime_checkable
class QueueOfOthers(ForeignSource, Protocol):
    """A queue whose messages a class handles, as its ``source`` says."""

    def listener(self, handlers: Any, parts: Parts) -> Bridge:
        """Return what brings the messages to the handlers; nothing runs yet.

        Raises:
            ConfigurationError: the broker is not named, or wrongly.
        """


class Publishing(Protocol):
    """Where events of a service go besides the event bus. ``name`` is that of its progress."""

    name: str

    def publishers(self, parts: Parts) -> Sequence[Bridge]:
        """Return what publishes the events, one for each log of the store; nothing runs yet.

        Raises:
            ConfigurationError: the broker is not named, or wrongly; or there is no event store.
        """


__all__ = ["Bridge", "Parts", "Publishing", "QueueOfOthers"]
