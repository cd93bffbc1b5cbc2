"""What keeps the databases of a service from growing for ever: it forgets what nobody needs."""

import asyncio
import math
import socket
from collections.abc import Iterable, Mapping

import structlog

from headwater.errors import HeadwaterError
from headwater.eventbus import EventBus
from headwater.eventbus.retention import Retention
from headwater.eventstore import StreamStore
from headwater.processing import BusSource, Processor
from headwater.processing.sources.tokens import token_of
from headwater.service.engines import EVENT_BUSES, VIEW_STORES
from headwater.service.settings import ServiceSettings
from headwater.views import ViewStore

_log = structlog.get_logger("headwater.service")
_EVERY_S = 60.0


def not_forgetting(kept_s: float) -> str:
    """Say that a bus whose engine does not forget is told to; empty if it is not."""
    if not kept_s:
        return ""
    return (
        f"bus_kept_s = {kept_s:g} has no effect: this bus forgets by the broker's own retention "
        "alone, also what somebody has not read yet; set that there, and bus_kept_s = 0 here"
    )


class Upkeep:
    """Runs beside an instance; several of them do the same work, and do not harm each other."""

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        store: StreamStore | None,
        bus: EventBus | None,
        views: ViewStore,
        processors: Iterable[Processor],
    ) -> None:
        """Prepare; ``processors`` are those of the instance, wherever they read."""
        self._settings = settings
        self._store = store
        self._bus = bus
        self._views = views
        self._readers = [p for p in processors if isinstance(p.source, BusSource)]
        url = settings.url("views")
        engine = VIEW_STORES.of(url)
        elsewhere = engine.shared and engine.file_of(url) is None
        place = "" if elsewhere else f" of {socket.gethostname()}:{url}"
        self._name = f"{settings.service}{place}"

    async def run(self) -> None:
        """Work for ever; what fails is told, and tried again at the next turn."""
        self.warn()
        while True:
            try:
                await self.turn()
            except HeadwaterError as error:
                _log.warning("nothing was forgotten this time", error=str(error))
            await asyncio.sleep(_EVERY_S)

    def warn(self) -> None:
        """Tell that what is set about forgetting has no effect on this bus, if so."""
        settings = self._settings
        if self._bus is None or not settings.bus_kept_s:
            return
        if not EVENT_BUSES.of(settings.url("bus")).forgets:
            _log.warning("the bus does not forget", reason=not_forgetting(settings.bus_kept_s))

    async def turn(self) -> None:
        """Forget keys, say what was read of the bus, and forget what all have read.

        Raises:
            StoreUnavailable: a database is away.
        """
        settings = self._settings
        if self._store is not None and settings.keys_kept_s:
            await self._store.forget_keys(settings.keys_kept_s)
        if self._bus is None:
            return
        for processor in self._readers:
            offsets = await self._read_by(processor)
            if offsets:
                await self._bus.note_reader(f"{self._name}/{processor.name}", offsets)
        if settings.bus_kept_s or settings.bus_bytes_max:
            await self._bus.forget(
                Retention(
                    age_s=settings.bus_kept_s or math.inf,
                    bytes_max=settings.bus_bytes_max,
                    silent_s=settings.bus_silent_s or math.inf,
                )
            )

    async def _read_by(self, processor: Processor) -> Mapping[int, int]:
        """Return how far all segments of a processor have come, in all generations."""
        found: dict[int, int] = {}
        for segment in await self._views.segments(processor.name):
            token = token_of(segment.token)
            mine = processor.source.restrict(token, {segment.index}, segment.count)
            for partition, offset in mine.offsets.items():
                found[partition] = min(offset, found.get(partition, offset))
        return found
