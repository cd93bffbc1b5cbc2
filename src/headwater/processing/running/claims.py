"""Claims: which segments this process works on, shared out fairly among all that take part."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Annotated

import structlog

from headwater.processing.running.clock import StoreClock
from headwater.processing.settings import ProcessorSettings
from headwater.processing.sources.source import Source
from headwater.processing.sources.tokens import Token, token_of
from headwater.views import Index, Key, Segment, View, ViewStore
from headwater.views.api import LEASE_S_MAX

_log = structlog.get_logger("headwater.processing")


class ProcessorMember(View):
    """A process that takes part in a processor's work but holds no segment yet."""

    id: Annotated[str, Key]
    processor: Annotated[str, Index]
    owner: str
    until: float


class Claims:
    """The segments that this process holds in one generation of one processor.

    ``held`` is what it holds now, ``surplus`` those of them that it should give back at the next
    opportunity. ``paused`` says whether nobody may hold any. ``revision`` rises whenever ``held``
    changes; ``lost`` is set when something was taken from us. Used by one event loop.
    """

    def __init__(
        self,
        processor: str,
        source: Source,
        views: ViewStore,
        *,
        owner: str,
        settings: ProcessorSettings,
    ) -> None:
        """Hold nothing yet."""
        self.processor = processor
        self.owner = owner
        self.generation = 0
        self.count = 0
        self.held: dict[int, Segment] = {}
        self.surplus: frozenset[int] = frozenset()
        self.paused: Callable[[], Awaitable[bool]] | None = None
        self.revision = 0
        self.satisfied = False
        self.lost = asyncio.Event()
        self._source = source
        self._views = views
        self._settings = settings
        self.clock = StoreClock(views, settings.ticks)
        self._lost: dict[int, Segment] = {}  # claims that we were told are lost
        self._announced = False
        self._ended: list[str] = []  # those who announced themselves and were not heard of again
        self._restarted = True  # until the first share: a claim of our name is from a former life
        self._lease_ends = 0.0  # the next one of somebody else; by the store's clock
        self._renewed_at = 0.0  # monotonic seconds
        self._announced_at = 0.0

    async def open(self, generation: int, wanted: int, token: Token | None = None) -> None:
        """Begin to work on a generation, making its segments with a token if there are none.

        Whatever was held in another generation is given back. If segments were split or merged,
        those that were kept for us are taken with the next `share`.
        """
        await self.release_all()
        segments = await self._views.open_segments(
            self.processor,
            count=self._source.split(wanted),
            token=(token or await self._source.begin()).text,
            generation=generation,
        )
        self.generation, self.count = generation, len(segments)
        self._restarted = True
        self.revision += 1

    async def share(self, segments: Sequence[Segment]) -> None:
        """Renew what is held, and claim or mark for giving back until the share is fair.

        Args:
            segments: the processor's segments as the store has them now.
        """
        self._lease_ends = 0.0
        await self._renew()
        now = await self.clock.look()
        if self.paused is not None and await self.paused():
            self.surplus = frozenset(self.held)
            self.satisfied = False  # so that it is soon seen when it may go on
            return
        mine = [s for s in segments if s.generation == self.generation]
        if len(mine) != self.count:
            return  # dropped, split or merged; the next look finds the new ones
        owners: dict[str, int] = {self.owner: len(self.held)}
        others = [s for s in mine if s.owner != self.owner and s.is_held(now)]
        self._lease_ends = min((s.lease_until for s in others), default=0.0)
        for segment in others:
            owners[segment.owner] = owners.get(segment.owner, 0) + 1
        for member in await self._waiting(now):
            owners.setdefault(member.owner, 0)
        target = self._target(owners)
        self.surplus = frozenset(sorted(self.held)[target:])
        left = [s for s in mine if s.index not in self.held]
        kept = [s for s in left if s.owner == self.owner and self._is_former(s)]
        free = [s for s in left if s not in kept and not s.is_held(now)]
        await self._claim(kept, restarted=True)
        await self._claim(free[: max(0, target - len(self.held))])
        self._restarted = False
        self.satisfied = len(self.held) == target and target > 0
        await self._announce(now)

    @property
    def pause_s(self) -> float:
        """How long to wait for the next `share`: until a lease ends that nobody renews."""
        pause = self._settings.renew_s if self.satisfied else self._settings.renew_s / 5
        if not self._lease_ends:
            return pause
        ends = self._lease_ends - self.clock()
        if ends <= 0:
            # It has ended since we looked, while we claimed others; or the store has been away
            # since then, which must not be asked without a pause.
            ends = self._settings.renew_s / 10
        return min(pause, ends)

    def _target(self, owners: dict[str, int]) -> int:
        """Return our share: those who hold most keep what cannot be divided."""
        base, rest = divmod(self.count, len(owners))
        ranked = sorted(owners, key=lambda owner: (-owners[owner], owner))
        return base + (1 if ranked.index(self.owner) < rest else 0)

    def holds(self, segment: Segment) -> bool:
        """Whether the very claim of a segment is still ours, as far as we know."""
        now = self.held.get(segment.index)
        return now is not None and (now.generation, now.count, now.fence) == (
            segment.generation,
            segment.count,
            segment.fence,
        )

    def outdate(self, segment: Segment) -> bool:
        """Whether we have worked on a segment since the store said this of it, or may have."""
        now = self.held.get(segment.index)
        return (
            now is not None
            and (now.generation, now.count) == (segment.generation, segment.count)
            and now.fence >= segment.fence
        )

    def _is_former(self, segment: Segment) -> bool:
        """Whether a claim of our name that we do not work under need not be waited for.

        It is from a former life, or was kept for us in a split or merge; or the store still has it
        although it was lost, as when the server's last commits were lost in a failover.
        """
        lost = self._lost.get(segment.index)
        return self._restarted or (
            lost is not None
            and (lost.generation, lost.count, lost.fence)
            == (segment.generation, segment.count, segment.fence)
        )

    async def _claim(self, segments: Sequence[Segment], *, restarted: bool = False) -> None:
        for segment in segments:
            claimed = await self._views.claim(
                segment,
                owner=self.owner,
                lease_s=self._settings.lease_s,
                restarted=restarted,
            )
            if claimed is None:
                continue
            if token_of(claimed.token).successor:  # frozen since we looked: nobody works on it
                await self._views.release([claimed])
                continue
            if self.paused is not None and await self.paused():  # since we looked
                await self._views.release([claimed])
                return
            self.held[claimed.index] = claimed
            self.revision += 1

    async def _renew(self) -> None:
        before = dict(self.held)
        if not before or time.monotonic() < self._renewed_at + self._settings.renew_s * 0.9:
            return
        self._renewed_at = time.monotonic()
        renewed = await self._views.renew(list(before.values()), lease_s=self._settings.lease_s)
        kept = {segment.index: segment for segment in renewed}
        for index, segment in before.items():
            if self.held.get(index) is not segment:
                continue  # it changed hands while we asked
            if index in kept:
                self.held[index] = kept[index]
            else:
                self.lose([index])

    def lose(self, indices: Collection[int]) -> None:
        """Note that segments are not ours any more."""
        for index in indices:
            lost = self.held.pop(index, None)
            if lost is not None:
                _log.info("a segment was taken over", processor=self.processor, segment=index)
                self._lost[index] = lost
                self.lost.set()
        self.revision += 1

    async def release(self, indices: Collection[int]) -> None:
        """Give segments back."""
        given = [self.held.pop(index) for index in indices if index in self.held]
        self.revision += 1
        if given:
            await self._views.release(given)

    async def release_all(self) -> None:
        """Give everything back, and take part no more."""
        await self.release(list(self.held))
        if self._announced:
            await self._withdraw()

    async def _waiting(self, now: float) -> list[ProcessorMember]:
        page = await self._views.find(ProcessorMember, where={"processor": self._scope}, limit=1000)
        ends = now + LEASE_S_MAX  # whatever is later was announced by a clock that was wrong
        there = [m for m in page.items if now < m.until <= ends]
        self._ended = [m.id for m in page.items if m not in there]
        return [m for m in there if m.owner != self.owner]

    async def _announce(self, now: float) -> None:
        """Make ourselves known while we hold nothing; who holds something is known by that."""
        if self.held:
            if self._announced:
                await self._withdraw()
            return
        if self._announced and time.monotonic() < self._announced_at + self._settings.renew_s:
            return
        member = ProcessorMember(
            id=f"{self._scope}/{self.owner}",
            processor=self._scope,
            owner=self.owner,
            until=now + self._settings.lease_s,
        )
        async with self._views.transaction() as transaction:
            await transaction.delete(ProcessorMember, self._ended)  # nobody else will
            await transaction.save([member])
        self._announced, self._announced_at = True, time.monotonic()

    async def _withdraw(self) -> None:
        async with self._views.transaction() as transaction:
            await transaction.delete(ProcessorMember, [f"{self._scope}/{self.owner}"])
        self._announced = False

    @property
    def _scope(self) -> str:
        return f"{self.processor}@{self.generation}"


def successor_of(segments: Sequence[Segment], generation: int) -> int:
    """Return the generation that takes over from one that is being replaced, else 0."""
    return max(
        (token_of(s.token).successor for s in segments if s.generation == generation), default=0
    )
