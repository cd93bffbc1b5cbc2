"""Wake-ups between all processes that share a PostgreSQL schema: LISTEN and NOTIFY.

A wake-up is a hint and may be lost, so those who wait look for themselves every `SAFETY_S`
seconds; what they wait for is in the tables. Notifications are sent after the commit, not in its
transaction: the server lets transactions that notify commit only one at a time, in all databases.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from headwater._sql.postgres.errors import LOST
from headwater._sql.waiting import Waiting

_PAUSE_S = 0.002  # between two notifications: one that comes later tells as much
_RETRY_S, _RETRY_S_MAX = 0.1, 2.0

Connect = Callable[[], Awaitable[Any]]


class Wake(Waiting):
    """Wakes the tasks of one event loop, and other processes, that wait for changes of a schema."""

    def __init__(self, channel: str, connect: Connect) -> None:
        """Prepare; a connection of its own is made when somebody waits or notifies.

        Args:
            channel: what the notifications are about; hashed when longer than allowed.
            connect: makes a connection.
        """
        super().__init__()
        if len(channel.encode()) > 63:
            channel = f"hw_{hashlib.blake2b(channel.encode(), digest_size=16).hexdigest()}"
        self.channel = channel
        self._connect = connect
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._to_tell = False

    def notify(self) -> None:
        """Wake everybody after a commit: this process at once, others within milliseconds."""
        self.fire()
        self.notify_others()

    def notify_others(self) -> None:
        """Wake all other processes. Never raises, never waits."""
        self._to_tell = True
        self._changed.set()
        self._listen()

    async def close(self) -> None:
        """Wake those who wait a last time and release everything. Twice is fine."""
        self._closed = True
        self.fire()
        self._changed.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_RETRY_S_MAX)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _listen(self) -> None:
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        pause_s = _RETRY_S
        while not self._closed:
            connection: Any = None
            try:
                connection = await self._connect()
                connection.add_termination_listener(lambda _: self._changed.set())
                own = connection.get_server_pid()
                await connection.add_listener(self.channel, partial(self._on_notify, own))
                self.hear()  # something may have happened before we could
                pause_s = _RETRY_S
                await self._tell(connection)
            except Exception:  # noqa: BLE001  # whatever it was: those who wait look themselves
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing(), pause_s)
                pause_s = min(2 * pause_s, _RETRY_S_MAX)
            finally:
                if connection is not None:
                    connection.terminate()

    async def _tell(self, connection: Any) -> None:
        """Pass on what this process notifies, until closed or the connection is lost."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if connection.is_closed():
                raise ConnectionResetError
            if self._to_tell:
                self._to_tell = False
                try:
                    await connection.execute(f"NOTIFY {self.channel}")
                except LOST:
                    self._to_tell = True
                    raise
            if self._closed:
                return
            await asyncio.sleep(_PAUSE_S)

    async def _closing(self) -> None:
        while not self._closed:
            await self._changed.wait()
            self._changed.clear()

    def _on_notify(self, own: int, _connection: Any, sender: int, _channel: str, _: str) -> None:
        # The connection may be closed by now, so it cannot be asked for its own number.
        if sender != own:
            self.hear()
