"""Snapshots of one aggregate class: a cache of states, for which no command ever fails."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from headwater.errors import HeadwaterError
from headwater.eventstore import Snapshot, StreamStore
from headwater.messages import Codec
from headwater.messages.sealing import opened, sealed
from headwater.modelling.state import StateType
from headwater.modelling.stored_state import NotStorable

_log = structlog.get_logger(__name__)
_WARN_AGAIN_S = 60.0


class Snapshots:
    """Takes, saves and reads the snapshots of one aggregate class.

    Attributes:
        left_out: how many could not be taken, saved or read since the start.
    """

    def __init__(
        self,
        kind: StateType,
        store: StreamStore,
        *,
        on_left_out: Callable[[str], None],
        codec: Codec | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Serve a class.

        Args:
            kind: the class.
            store: where the snapshots are.
            on_left_out: is told the aggregate's name whenever one is left out.
            codec: that of the service.
            clock: seconds; bounds how often the same warning is logged.
        """
        self._kind = kind
        self._store = store
        self._on_left_out = on_left_out
        self._codec = codec
        self._clock = clock
        self._saving: set[asyncio.Task[None]] = set()
        self._warned: dict[str, float] = {}
        self.left_out = 0

    def encode(self, state: Any) -> bytes | None:
        """Return the stored form of a state; None when it has none that comes back the same."""
        form = self._kind.form
        if form is None:
            return None
        try:
            return form.encode(state)
        except NotStorable as error:
            self._left_out("snapshot left out: loading replays all events", reason=str(error))
            return None

    def save(self, stream: str, version: int, data: bytes) -> None:
        """Save a state in the background; it must be durable."""
        stored = sealed(self._codec, data, stream=stream)
        snapshot = Snapshot(stream, version, self._kind.fingerprint, stored)
        task = asyncio.create_task(self._save(snapshot))
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    async def load(self, stream: str, *, until: int | None) -> tuple[Any, int] | None:
        """Return a state and its version, at most ``until``; None when no snapshot fits."""
        form = self._kind.form
        snapshot = await self._store.load_snapshot(stream) if form is not None else None
        if (
            form is None
            or snapshot is None
            or snapshot.fingerprint != self._kind.fingerprint
            or (until is not None and snapshot.version > until)
        ):
            return None
        try:
            data = opened(self._codec, snapshot.data, stream=stream)
            return form.decode(data), snapshot.version
        except Exception as error:  # noqa: BLE001  # whatever it is: the events are the truth
            self._left_out("snapshot cannot be read", stream=stream, reason=str(error))
            return None

    async def close(self) -> None:
        """Finish those that are being saved."""
        if self._saving:
            await asyncio.wait(self._saving)

    async def _save(self, snapshot: Snapshot) -> None:
        try:
            await self._store.save_snapshot(snapshot)
        except HeadwaterError as error:
            self._left_out("snapshot not saved", stream=snapshot.stream, reason=str(error))

    def _left_out(self, what: str, **details: str) -> None:
        self.left_out += 1
        self._on_left_out(self._kind.name)
        now = self._clock()
        if now - self._warned.get(what, -_WARN_AGAIN_S) >= _WARN_AGAIN_S:
            self._warned[what] = now
            _log.warning(what, aggregate=self._kind.name, left_out=self.left_out, **details)
