"""A handler that takes long holds up its own segment, and nobody else."""

import asyncio

import pytest

from headwater.messages.hashing import stable_hash
from headwater.modelling import EventHandlers, EventMessage, event_handler
from headwater.processing import Processor, ProcessorAdmin
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import Deposited, Ledger, Noted, Opened, append

POISON = 666
SEGMENTS = EventHandlers.segments
SLOW = "slow"
NAMES = [f"a{number}" for number in range(30)]
BESIDE = [name for name in NAMES if stable_hash(name) % SEGMENTS != stable_hash(SLOW) % SEGMENTS]
BEHIND = [name for name in NAMES if name not in BESIDE]


class Mailer(EventHandlers):
    """Writes letters, for which it may have to wait; each is noted when it is out."""

    start = "beginning"

    name = "mailer"

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = False
        self.written: list[str] = []
        self.poison = {POISON}

    @event_handler
    async def opened(self, event: Opened) -> None:
        if event.account_id == SLOW:
            self.waiting = True
            await self.gate.wait()
        self.written.append(event.account_id)

    @event_handler
    async def deposited(self, event: Deposited, message: EventMessage[Deposited]) -> None:
        if event.amount in self.poison:
            msg = f"cannot write about {event.amount}"
            raise ValueError(msg)
        self.written.append(f"{message.stream} {event.amount}")


def mailer(stores: Stores, handlers: Mailer, owner: str = "one") -> Processor:
    return Processor(
        handlers, source=stores.source, views=stores.views, owner=owner, settings=QUICK
    )


async def test_a_slow_handler_slows_its_own_segment_only(stores: Stores) -> None:
    """Other segments, other processors and the renewal of claims go on while it takes its time."""
    handlers = Mailer()
    processor = await stores.start(mailer(stores, handlers))
    ledger = Processor(
        Ledger(), source=stores.source, views=stores.views, owner="one", settings=QUICK
    )
    await stores.start(ledger)
    await append(stores.store, SLOW, Opened(SLOW, "x"))
    for name in NAMES:
        await append(stores.store, name, Opened(name, "x"))
    await until(lambda: handlers.waiting and set(BESIDE) <= set(handlers.written))
    await stores.caught_up(ledger)
    assert not set(BEHIND) & set(handlers.written)
    slow = stable_hash(SLOW) % SEGMENTS

    async def lease() -> float:
        return (await stores.views.segments("mailer"))[slow].lease_until

    begun = await lease()
    await until(lambda: _later(lease, begun + QUICK.lease_s))
    other = await stores.start(mailer(stores, Mailer(), "two"))
    assert (await stores.views.segments("mailer"))[slow].owner == "one"
    await other.stop()
    handlers.gate.set()
    await stores.caught_up(processor)
    assert sorted(handlers.written) == sorted([SLOW, *NAMES])
    assert (await processor.status()).handled == 31


async def _later(lease: object, than: float) -> bool:
    assert callable(lease)
    found: float = await lease()
    return found > than


async def test_what_was_done_outside_is_not_done_again_for_a_neighbour(stores: Stores) -> None:
    """When an event fails, those before it and beside it in the same page had their effect once."""
    handlers = Mailer()
    admin = ProcessorAdmin(handlers, source=stores.source, views=stores.views, settings=QUICK)
    for name in NAMES:
        await append(stores.store, name, Opened(name, "x"))
    await append(stores.store, "a1", Deposited("a1", POISON), Deposited("a1", 2))
    for name in NAMES:
        await append(stores.store, name, Deposited(name, 1))
    processor = await stores.start(mailer(stores, handlers))
    await stores.caught_up(processor)
    expected = [*NAMES, *[f"{name} 1" for name in NAMES if name != "a1"]]
    assert sorted(handlers.written) == sorted(expected)
    assert (await admin.status()).dead_letters == 3
    assert (await admin.retry("a1")).failed is not None
    handlers.poison = set()
    assert (await admin.retry("a1")).handled == 3
    assert handlers.written[-3:] == ["a1 666", "a1 2", "a1 1"]
    await append(stores.store, "a1", Deposited("a1", 5))
    await stores.caught_up(processor)
    assert handlers.written[-1] == "a1 5"


@pytest.mark.parametrize("count", [1, 7])
async def test_slow_segments_can_be_split_and_merged(stores: Stores, count: int) -> None:
    """A handler that is at work during a resize ends, and its event comes to the new segment."""
    handlers = Mailer()
    processor = await stores.start(mailer(stores, handlers))
    await append(stores.store, SLOW, Opened(SLOW, "x"))
    await until(lambda: handlers.waiting)
    admin = ProcessorAdmin(handlers, source=stores.source, views=stores.views, settings=QUICK)
    await admin.resize(count)
    await until(lambda: len(processor.claims.held) == processor.claims.count == count)
    handlers.gate.set()
    for name in NAMES:
        await append(stores.store, name, Opened(name, "x"), Noted("not of interest"))
    await stores.caught_up(processor)
    assert set(handlers.written) == {SLOW, *NAMES}
    assert all(handlers.written.count(name) == 1 for name in NAMES)
