"""When services under test have nothing to do until time passes, and what keeps them from it."""

import asyncio
import math
import time
from collections.abc import Sequence

from headwater.errors import HeadwaterError
from headwater.processing import Processor, RelayStatus, SagaProcessor
from headwater.processing.handling.dead_letters import DeadLetter, letters
from headwater.processing.sagas.views import PendingCommand
from headwater.processing.scheduling import ScheduleProcessor
from headwater.service.runtime import Runtime

_POLL_S = 0.001
_TRIES_MAX = 4  # of a command; in a process nothing is away by chance


class Unsettled(AssertionError):
    """Something went wrong behind the answers to commands and queries."""


class Settling:
    """Watches the processors of some instances."""

    def __init__(self, runtimes: Sequence[Runtime]) -> None:
        """Watch these."""
        self._runtimes = runtimes
        self._told: set[tuple[str, str]] = set()  # letters, by service and id

    async def settled(self, *, timeout_s: float) -> None:
        """Return when all that there is was handled, but what waits for its time.

        Raises:
            Unsettled: something is parked, a command cannot be sent, or it goes on for too long.
        """
        ends = time.monotonic() + timeout_s
        while True:
            heads = await self._heads()
            busy = await self._busy()
            await self._raise_parked()
            if not busy and heads == await self._heads():
                return
            if stuck := self._stuck():
                raise Unsettled("\n".join(stuck))
            if time.monotonic() > ends:
                raise Unsettled(f"not settled within {timeout_s:g} s:\n" + "\n".join(busy))
            await asyncio.sleep(_POLL_S)

    async def due_s(self) -> float:
        """Return in how many seconds the next thing is due that waits for its time."""
        due = math.inf
        for runtime in self._runtimes:
            for processor in runtime.processors.readers:
                if isinstance(processor, ScheduleProcessor):
                    await processor.refresh()
                if isinstance(processor, SagaProcessor):
                    deadline_s = processor.saga_status().due_s
                    due = min(due, math.inf if deadline_s is None else deadline_s)
                waiting = (await processor.status()).waiting
                due = min([due, *(one.due - processor.claims.clock() for one in waiting)])
        return due

    def wake(self) -> None:
        """Let all look what is due by now."""
        for runtime in self._runtimes:
            for processor in runtime.processors.readers:
                processor.wake()

    async def _heads(self) -> list[object]:
        """Return how far all logs are."""
        heads: list[object] = []
        for runtime in self._runtimes:
            if runtime.store is not None:
                heads += [await shard.head() for shard in runtime.store.shards]
            if runtime.bus is not None:
                heads.append(await runtime.bus.end())
        return heads

    async def _busy(self) -> list[str]:
        """Return what is still to be done, for a person; nothing when all is done."""
        found: list[str] = []
        for runtime in self._runtimes:
            name = runtime.service.name
            for processor in runtime.processors.readers:
                found += [f"{name}: {told}" for told in await _work_of(processor)]
            for status in await runtime.processors.statuses():
                if isinstance(status, RelayStatus) and status.position < status.head:
                    missing = f"{status.head - status.position} events to publish"
                    found.append(f"{name}: {status.name} has {missing}. {status.failure}")
        return found

    def _stuck(self) -> list[str]:
        """Return the commands of sagas that were tried in vain."""
        return [
            f"{runtime.service.name}: command {id} of saga {processor.name} cannot be sent, after "
            f"{tries} tries: {error}"
            for runtime in self._runtimes
            for processor in runtime.processors.readers
            if isinstance(processor, SagaProcessor)
            for id, tries, error in processor.saga_status().retrying
            if tries >= _TRIES_MAX
        ]

    async def _raise_parked(self) -> None:
        """Raise for what waits for a person, once for each letter."""
        found: list[str] = []
        for runtime in self._runtimes:
            views = runtime.views
            if views is None or not runtime.processors.readers:
                continue
            async for letter in letters(views):
                told = (runtime.service.name, letter.id)
                if letter.state == "parked" and told not in self._told:
                    self._told.add(told)
                    found.append(_parked(runtime, letter))
        if found:
            raise Unsettled("\n".join(found))


async def _work_of(processor: Processor) -> list[str]:
    """Return what a processor has still to do."""
    found: list[str] = []
    try:
        status = await processor.status()
        at_work = sum(len(group.segments) for group in status.groups)
        lag = sum(group.lag for group in status.groups)
        if lag or not at_work or at_work < processor.claims.count:
            found.append(f"{processor.name} has {lag} events to handle")
        now = processor.claims.clock()
        late = [one for one in status.waiting if one.due <= now]
        found += [f"{processor.name} tries {one.sequence!r} again: {one.error}" for one in late]
        if isinstance(processor, SagaProcessor):
            found += await _work_of_saga(processor)
    except HeadwaterError as error:
        return [f"{processor.name} cannot be asked: {error}"]
    if found and status.failure:
        found.append(f"{processor.name} fails: {status.failure}")
    return found


async def _work_of_saga(processor: SagaProcessor) -> list[str]:
    if isinstance(processor, ScheduleProcessor):  # what handlers put down in their transactions
        await processor.refresh()
    status = processor.saga_status()
    found = [f"{processor.name} sends a command again: {e}" for _, _, e in status.retrying]
    if status.due_s == 0.0:
        found.append(f"{processor.name} has a deadline that is due")
    if not found and await processor.views.count(PendingCommand):
        found.append(f"{processor.name} has commands to send")
    return found


def _parked(runtime: Runtime, letter: DeadLetter) -> str:
    processor, _, _ = letter.queue.rpartition("@")
    what = f"{letter.kind} {letter.type} of {letter.sequence!r}"
    told = f"{runtime.service.name}: {processor} has parked the {what}: {letter.error}"
    return f"{told}\n{letter.traceback}".rstrip()


__all__ = ["Settling", "Unsettled"]
