"""Keeps a registry in agreement with others, through a store that they share.

The registry goes on in memory whatever becomes of the store: what it lists, and what it answers,
does not wait for it. What it decides is stored soon after, and what others have stored it lists.
Requests are stored in any case; what a registry decides by itself (that an instance has expired, or
is held by it now) only while nobody else has changed the instance: so it is decided once.
"""

import asyncio
import time
from collections.abc import Mapping

import msgspec
import structlog

from headwater._http.signal import Signal, wait_for
from headwater.discovery.api import Entry, Mark, Records, RegistryStore
from headwater.discovery.registry import Registry, Why
from headwater.errors import HeadwaterError

_log = structlog.get_logger("headwater.discovery")


class SharingStatus(msgspec.Struct, frozen=True):
    """How a registry stands with its store: its name, why it is away, how many changes wait."""

    name: str
    error: str
    waiting: int


class _Waiting(msgspec.Struct, frozen=True):
    """A change that is to be stored: see `Entry`."""

    expected: int | None
    registers: bool = True
    overrides: bool = False


class Sharing:
    """Stores what a registry decides, and lists there what others have stored."""

    def __init__(
        self,
        registry: Registry,
        store: RegistryStore,
        *,
        beat_s: float = 1.0,
        silent_s: float = 5.0,
        patience_s: float = 0.5,
    ) -> None:
        """Describe it; `start` begins.

        Args:
            registry: what it keeps in agreement.
            store: through which; closed by `stop`.
            beat_s: how often it gives a sign of life, and looks at the store without being woken.
            silent_s: the instances of a registry that gives none for so long are taken over.
            patience_s: how long a request waits for the store at most.
        """
        self._registry = registry
        self._store = store
        self._beat_s = beat_s
        self._silent_s = silent_s
        self._patience_s = patience_s
        self._server = registry.epoch
        self._mark: Mark | None = None
        self._waiting: dict[str, _Waiting] = {}
        self._told_count = self._stored_count = 0
        self._beaten = float("-inf")
        self._signs: dict[str, tuple[int, float]] = {}  # of each server: how many, since when
        self._error = "it was not asked yet"
        self._wake = Signal()
        self._progress = Signal()
        self._tasks: list[asyncio.Task[None]] = []
        registry.apart = True
        registry.share(self._told)

    @property
    def status(self) -> SharingStatus:
        """How the registry stands with its store."""
        return SharingStatus(self._store.name, self._error, len(self._waiting))

    async def start(self) -> None:
        """Know what the store knows when this returns, unless it is away; then follow it."""
        await self._try()
        self._tasks = [
            asyncio.create_task(self._follow(), name="share the registry"),
            asyncio.create_task(self._listen(), name="listen to other registries"),
        ]

    async def stop(self) -> None:
        """Store what waits, within the store's bounds, and close the store. Twice is fine."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks and not self._error:
            try:
                await self._write()
                await self._store.leave(self._server)
            except HeadwaterError as error:
                _log.info("not told to the other registries", reason=str(error))
        self._tasks = []
        await self._store.close()

    async def settled(self) -> None:
        """Return when what was decided up to now is stored, after `patience_s` at the latest.

        At once while the store is away: it is stored later.
        """
        wanted = self._told_count
        try:
            async with asyncio.timeout(self._patience_s):
                while self._stored_count < wanted and not self._error:
                    await self._progress.next.wait()
        except TimeoutError:
            return

    def _told(self, id: str, why: Why, known: int) -> None:
        old = self._waiting.get(id)
        asked = old is not None and old.expected is None
        overrides = why == "override" or (old is not None and old.overrides)
        if why in ("request", "override") or (asked and why != "expiry"):
            registers = why == "request" or (old is not None and old.registers)
            self._waiting[id] = _Waiting(None, registers, overrides)
        else:
            self._waiting[id] = _Waiting(known, overrides=overrides)
        self._told_count += 1
        self._wake.send()

    async def _follow(self) -> None:
        while True:
            following = self._wake.next
            if await self._try():
                await wait_for(following, self._beat_s)
            else:
                await asyncio.sleep(self._beat_s)

    async def _listen(self) -> None:
        while True:
            await self._store.changed()
            self._wake.send()

    async def _try(self) -> bool:
        """Come to an agreement; whether the store was there."""
        try:
            await self._beat()
            await self._write()
            await self._read()
        except Exception as error:  # noqa: BLE001  # whatever it is: the registry goes on
            self._away(error)
        else:
            if self._error:
                _log.info("the registry shares what it knows", store=self._store.name)
            self._error, self._registry.apart = "", False
        self._progress.send()
        return not self._error

    def _away(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, HeadwaterError) else repr(error)
        if reason != self._error:
            _log.warning("the registry goes on in memory alone", reason=reason)
        self._error, self._registry.apart = reason, True
        self._signs.clear()  # nobody can be said to have been silent meanwhile

    async def _beat(self) -> None:
        now = time.monotonic()
        if now - self._beaten < self._beat_s:
            return
        signs = await self._store.beat(self._server)
        self._beaten = now
        self._watch(signs)

    def _watch(self, signs: Mapping[str, int]) -> None:
        """Take over from registries that have been silent while we were listening."""
        now, holders = time.monotonic(), self._registry.holders()
        before, self._signs = self._signs, {}
        for server in {*signs, *holders}:
            count = signs.get(server, 0)
            known = before.get(server)
            self._signs[server] = known if known and known[0] == count else (count, now)
        silent = {h for h in holders if now - self._signs[h][1] > self._silent_s}
        if silent:
            taken = self._registry.take_over(silent)
            _log.warning("instances of a silent registry are taken over", count=taken)

    async def _write(self) -> None:
        upto, batch = self._told_count, dict(self._waiting)
        if batch:
            stored = await self._store.write([self._entry(id, w) for id, w in batch.items()])
            for id, waiting in batch.items():
                now = self._waiting[id]
                if now is waiting:
                    del self._waiting[id]
                if waiting.expected is not None and id in stored:
                    # What was asked for is read again instead: an override may have been there.
                    self._registry.settle(id, stored[id])
                    if now is not waiting and now.expected is not None:
                        self._waiting[id] = _Waiting(stored[id], overrides=now.overrides)
        self._stored_count = upto

    def _entry(self, id: str, waiting: _Waiting) -> Entry:
        record = self._registry.record(id, server=self._server)
        return Entry(record, waiting.expected, waiting.registers, waiting.overrides)

    async def _read(self) -> None:
        page = await self._store.read(self._mark)
        before = self._mark
        lost = before is not None and (
            page.mark.store != before.store or page.mark.revision < before.revision
        )
        if lost:
            _log.warning("the store is another one, or an older one: it is told everything again")
            self._registry.store_again()
        self._mark = self._take(page)
        if before is None:
            self._registry.expect(0.0)  # what was registered before is known
        if page.complete:
            present = {record.id for record in page.records} | self._waiting.keys()
            for instance in self._registry.all():
                if instance.id not in present:
                    self._registry.forget(instance.id)

    def _take(self, page: Records) -> Mark:
        """List what others have stored; return how far that is to be remembered."""
        upto = page.mark.revision
        for record in page.records:
            waiting = self._waiting.get(record.id)
            if waiting is not None and waiting.expected is None:
                # Told since we wrote. Should it turn out to change nothing, this is what counts:
                # it is read again then.
                upto = min(upto, record.revision - 1)
                continue
            if waiting is not None and waiting.expected is not None:
                if record.revision <= waiting.expected:
                    continue
                del self._waiting[record.id]  # decided without knowing this
            self._registry.take(record, server=self._server)
        return page.mark._replace(revision=upto)


__all__ = ["Sharing", "SharingStatus"]
