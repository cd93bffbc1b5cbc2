"""An event that fails waits for its next try as a letter, and holds up its own sequence only."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from headwater.errors import (
    DeadlineExceeded,
    NoInstance,
    NotCaughtUp,
    RemoteError,
    StoreUnavailable,
)
from headwater.eventbus import BusEvent
from headwater.eventstore import NewEvent, StreamWrite
from headwater.messages import Event, Metadata, new_id
from headwater.messages.hashing import stable_hash
from headwater.modelling import EventHandlers, EventMessage, Retry, event_handler
from headwater.processing import (
    BusSource,
    DeadLetter,
    Processor,
    ProcessorAdmin,
    ProcessorSettings,
    Source,
)
from headwater.views import ViewStore, ViewTransaction
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import Deposited, Noted, Opened, append

PATIENT = msgspec.structs.replace(
    QUICK, retry=Retry(attempts=100_000, pause_s=0.01, pause_max_s=0.02)
)


class Failing(Exception):
    """What a handler may raise."""


class Calls(EventHandlers):
    """Calls somebody about each deposit; ``faults`` says what to raise, by stream."""

    name = "calls"
    start = "beginning"

    def __init__(self) -> None:
        self.faults: dict[str, BaseException] = {}
        self.handled: list[tuple[str, int]] = []
        self.tried: list[str] = []

    def call(self, event: Deposited, stream: str) -> None:
        self.tried.append(stream)
        if stream in self.faults:
            raise self.faults[stream]
        self.handled.append((stream, event.amount))


class Outside(Calls):
    """Calls outside of the transaction."""

    @event_handler
    async def deposited(self, event: Deposited, message: EventMessage[Deposited]) -> None:
        self.call(event, message.stream)


class Inside(Calls):
    """Calls within the transaction, in a segment of all."""

    segments = 1

    @event_handler
    async def deposited(
        self, event: Deposited, message: EventMessage[Deposited], transaction: ViewTransaction
    ) -> None:
        self.call(event, message.stream)


class Desk:
    """A processor of calls and what an operator has."""

    def __init__(self, stores: Stores, handlers: Calls) -> None:
        self.stores = stores
        self.handlers = handlers
        self.source: Source = stores.source

    async def start(
        self,
        settings: ProcessorSettings = PATIENT,
        views: ViewStore | None = None,
        owner: str = "a",
    ) -> Processor:
        return await self.stores.start(
            Processor(
                self.handlers,
                source=self.source,
                views=views or self.stores.views,
                owner=owner,
                settings=settings,
            )
        )

    @property
    def admin(self) -> ProcessorAdmin:
        return ProcessorAdmin(self.handlers, source=self.source, views=self.stores.views)

    async def letters(self) -> list[DeadLetter]:
        return [letter async for letter in self.admin.letters()]

    def amounts(self, stream: str) -> list[int]:
        """Return what was handled of a stream; what was rolled back was called once more."""
        return list(dict.fromkeys(n for name, n in self.handlers.handled if name == stream))


@pytest.fixture(params=[Inside, Outside])
def desk(stores: Stores, request: pytest.FixtureRequest) -> Desk:
    return Desk(stores, request.param())


async def test_others_of_the_segment_go_on(desk: Desk) -> None:
    """While an event waits, all other sequences go on, and those behind it wait, in order."""
    store = desk.stores.store
    desk.handlers.faults["a"] = Failing("no")
    processor = await desk.start()
    await append(store, "a", Deposited("a", 1), Deposited("a", 2))
    for name in ("b", "c", "d"):
        await append(store, name, Deposited(name, 1))
    position = await append(store, "b", Deposited("b", 2))
    await processor.wait_for(desk.stores.at(position), timeout_s=10.0)
    assert desk.amounts("b") == [1, 2]
    await append(store, "a", Deposited("a", 3))
    await until(lambda: desk.handlers.tried.count("a") >= 3)
    states = [(one.state, one.event and one.event.version) for one in await desk.letters()]
    assert states[:2] == [("waiting", 1), ("behind", 2)]
    status = await processor.status()
    assert [(one.sequence, one.error) for one in status.waiting] == [("a", "Failing: no")]
    assert (status.parked, status.failure) == (0, "")
    assert status.failures >= 3
    desk.handlers.faults.clear()
    await until(lambda: desk.amounts("a") == [1, 2, 3])
    position = await append(store, "a", Deposited("a", 4))
    await processor.wait_for(desk.stores.at(position), timeout_s=10.0)
    assert desk.amounts("a") == [1, 2, 3, 4]
    assert await desk.letters() == []
    assert (await processor.status()).waiting == ()


async def test_a_token_of_what_waits_is_not_reached(desk: Desk) -> None:
    """Who asks for what waits for its next try waits, too, and is told why it was in vain."""
    store, at = desk.stores.store, desk.stores.at
    desk.handlers.faults["a"] = Failing("no")
    processor = await desk.start()
    position = await append(store, "a", Deposited("a", 1))
    behind = await append(store, "a", Deposited("a", 2))
    other = await append(store, "b", Deposited("b", 1))
    await processor.wait_for(at(other), timeout_s=10.0)
    for wanted in (position, behind):
        with pytest.raises(NotCaughtUp) as raised:
            await processor.wait_for(at(wanted), timeout_s=0.2)
        assert "'a' waits for its next try: Failing: no" in str(raised.value)
        assert raised.value.expected == position
    waiting = asyncio.create_task(processor.wait_for(at(behind), timeout_s=30.0))
    desk.handlers.faults.clear()
    await waiting
    assert desk.amounts("a") == [1, 2]


async def test_after_its_attempts_it_is_parked(desk: Desk) -> None:
    """What has failed often enough waits for a person, with the traceback."""
    desk.handlers.faults["a"] = Failing("no")
    processor = await desk.start(QUICK)
    await append(desk.stores.store, "a", Deposited("a", 1), Deposited("a", 2))
    await desk.stores.caught_up(processor)
    first, behind = await desk.letters()
    assert (first.state, first.attempts, first.error) == ("parked", 3, "Failing: no")
    assert "raise self.faults[stream]" in first.traceback
    assert behind.state == "behind"
    assert desk.handlers.tried == ["a"] * 3
    status = await processor.status()
    assert (status.parked, status.letters, status.waiting, status.failures) == (1, 2, (), 3)
    (told,) = await processor.concerns()
    assert "'a' is parked: Failing: no" in told


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable(store="elsewhere", reason="it is away"),
        NoInstance(service="elsewhere"),
        DeadlineExceeded(action="call", timeout_s=1.0),
        RemoteError(source="x", remote_status=503, detail="not now"),
        ConnectionRefusedError("nobody there"),
        OSError(111, "as aiohttp raises it"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_outages_of_others_cost_no_attempt(stores: Stores, error: Exception) -> None:
    """What is merely away is tried for as long as it takes, and never parked."""
    desk = Desk(stores, Outside())
    desk.handlers.faults["a"] = error
    processor = await desk.start(QUICK)
    await append(stores.store, "a", Deposited("a", 1))
    await until(lambda: len(desk.handlers.tried) > 2 * QUICK.retry.attempts)
    (letter,) = await desk.letters()
    assert (letter.state, letter.outage, letter.attempts) == ("waiting", True, 0)
    assert "'a' waits for its next try" in (await processor.concerns())[0]
    desk.handlers.faults.clear()
    await until(lambda: desk.amounts("a") == [1])


async def test_one_finds_out_for_all_whether_something_is_back(stores: Stores) -> None:
    """Of all that wait for the same, one is tried at a time; when it gets through, all are."""
    desk, names = Desk(stores, Inside()), [f"s{n}" for n in range(20)]
    desk.handlers.faults = {name: NoInstance(service="x") for name in names}
    processor = await desk.start(QUICK)
    for name in names:
        await append(stores.store, name, Deposited(name, 1))
    await until(lambda: len(set(desk.handlers.tried)) == 20)
    tried = len(desk.handlers.tried)
    await until(lambda: len(desk.handlers.tried) > tried + 5)
    dues = {one.due for one in (await processor.status()).waiting}
    assert len(dues) <= 2
    desk.handlers.faults.clear()
    await until(lambda: all(desk.amounts(name) == [1] for name in names))


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        StopIteration(),
        BaseException(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_handler_raises_is_a_failure_of_its_event(
    desk: Desk, error: BaseException
) -> None:
    """What ends tasks and programs ends neither the processor nor the program."""
    desk.handlers.faults["a"] = error
    processor = await desk.start(QUICK)
    await append(desk.stores.store, "a", Deposited("a", 1))
    await append(desk.stores.store, "b", Deposited("b", 1))
    await desk.stores.caught_up(processor)
    assert desk.amounts("b") == [1]
    (letter,) = await desk.letters()
    assert (letter.state, letter.attempts) == ("parked", 3)
    desk.handlers.faults.clear()
    assert (await desk.admin.retry("a")).handled == 1


async def test_a_restart_forgets_nothing(desk: Desk) -> None:
    """Another process goes on with what waits when it takes over, in order."""
    store = desk.stores.store
    desk.handlers.faults = {name: Failing("no") for name in "abc"}
    first = await desk.start()
    for name in "abcd":
        await append(store, name, Deposited(name, 1), Deposited(name, 2))
    await until(lambda: {"a", "b", "c"} <= set(desk.handlers.tried))
    await first.stop()
    assert {letter.sequence for letter in await desk.letters()} <= {"a", "b", "c"}
    desk.handlers.faults.clear()
    second = await desk.start(views=await desk.stores.another(), owner="b")
    for name in "abcd":
        await append(store, name, Deposited(name, 3))
    await desk.stores.caught_up(second)
    await until(lambda: sum(len(desk.amounts(name)) for name in "abcd") >= 12)
    assert {name: desk.amounts(name) for name in "abcd"} == {name: [1, 2, 3] for name in "abcd"}


@pytest.mark.parametrize("count", [1, 3, 8])
async def test_waiting_goes_on_over_a_resize(desk: Desk, count: int) -> None:
    """Splitting and merging segments loses nothing of what waits."""
    store = desk.stores.store
    desk.handlers.faults = {name: Failing("no") for name in "abcdef"}
    processor = await desk.start()
    for name in "abcdefgh":
        await append(store, name, Deposited(name, 1))
    await until(lambda: set("abcdef") <= set(desk.handlers.tried))
    await desk.admin.resize(count)
    desk.handlers.faults.clear()
    for name in "abcdefgh":
        await append(store, name, Deposited(name, 2))
    await desk.stores.caught_up(processor)
    names = "abcdefgh"
    await until(lambda: sum(len(desk.amounts(name)) for name in names) >= 16)
    assert {name: desk.amounts(name) for name in names} == {name: [1, 2] for name in names}


async def test_when_too_many_wait_their_segment_waits(desk: Desk) -> None:
    """Letters are bounded: with too many waiting, the next that fails holds up its segment."""
    few = msgspec.structs.replace(PATIENT, waiting_max=2, page_size=1)
    store, names = desk.stores.store, [f"s{n}" for n in range(40)]
    slow = stable_hash("s0") % 4
    together = names if type(desk.handlers) is Inside else [
        name for name in names if stable_hash(name) % 4 == slow
    ]  # fmt: skip
    desk.handlers.faults = {name: NoInstance(service="x") for name in together}
    processor = await desk.start(few)
    for name in names:
        await append(store, name, Deposited(name, 1))

    async def held_up() -> bool:
        groups = (await processor.status()).groups
        return any(group.error and group.attempts > 1 for group in groups)

    await until(held_up)
    assert len(await desk.letters()) == 2
    beside = sorted(set(names) - set(together))
    await until(lambda: sorted({name for name, _ in desk.handlers.handled}) == beside)
    desk.handlers.faults.clear()
    await desk.stores.caught_up(processor)
    await until(lambda: sorted({name for name, _ in desk.handlers.handled}) == sorted(names))
    assert all(desk.amounts(name) == [1] for name in names)


async def test_a_retry_by_hand_while_events_arrive(desk: Desk) -> None:
    """Who retries by hand what waits, or is parked, meets neither new events nor the processor."""
    store = desk.stores.store
    desk.handlers.faults["a"] = Failing("no")
    processor = await desk.start(QUICK)
    await append(store, "a", Deposited("a", 0))
    await desk.stores.caught_up(processor)
    desk.handlers.faults.clear()

    async def arrive() -> None:
        for n in range(1, 30):
            await append(store, "a", Deposited("a", n))

    arriving = asyncio.create_task(arrive())
    while not arriving.done() or await desk.letters():
        assert (await desk.admin.retry("a")).failed is None
        await asyncio.sleep(0)
    await desk.stores.caught_up(processor)
    await until(lambda: len(desk.amounts("a")) >= 30)
    assert desk.amounts("a") == list(range(30))


async def test_what_cannot_be_decoded_any_more(desk: Desk) -> None:
    """A retry of an event that does not fit its class fails again, and says so."""
    processor = await desk.start(QUICK)
    new = NewEvent("Deposited", 1, b'{"account_id": 7}', b"{}")
    await desk.stores.store.append([StreamWrite("a", [new])])
    await append(desk.stores.store, "b", Deposited("b", 1))
    await desk.stores.caught_up(processor)
    (letter,) = await desk.letters()
    assert (letter.state, letter.code) == ("parked", "event-unreadable")
    retried = await desk.admin.retry("a")
    assert retried.failed is not None
    assert retried.failed.code == "event-unreadable"
    assert desk.amounts("b") == [1]


async def test_a_class_has_a_policy_of_its_own(stores: Stores) -> None:
    """What a class says about retries comes before the settings."""

    class Once(Outside):
        retry = Retry(attempts=1)

    desk = Desk(stores, Once())
    desk.handlers.faults["a"] = Failing("no")
    processor = await desk.start(PATIENT)
    await append(stores.store, "a", Deposited("a", 1))
    await desk.stores.caught_up(processor)
    (letter,) = await desk.letters()
    assert (letter.state, letter.attempts, desk.handlers.tried) == ("parked", 1, ["a"])


async def test_a_handler_that_never_ends_is_seen_and_can_be_limited(stores: Stores) -> None:
    """A handler at work on an event for long is shown; one with a time-out is tried again."""
    gate = asyncio.Event()

    class Endless(EventHandlers):
        @event_handler
        async def noted(self, event: Noted) -> None:
            await gate.wait()

    class Limited(EventHandlers):
        timeout_s = 0.01

        @event_handler
        async def noted(self, event: Noted) -> None:
            await gate.wait()

    endless, limited = [
        await stores.start(
            Processor(one, source=stores.source, views=stores.views, owner="a", settings=QUICK)
        )
        for one in (Endless, Limited)
    ]
    await append(stores.store, "a", Noted("x"))

    async def seen() -> bool:
        busy = (await endless.status()).busy
        return [(one.handler, one.type, one.stream) for one in busy] == [("noted", "Noted", "a")]

    await until(seen)

    async def waits() -> bool:
        waiting = (await limited.status()).waiting
        return ["did not finish within 0.010 s" in one.error for one in waiting] == [True]

    await until(waits)
    gate.set()
    await stores.caught_up(endless)
    await stores.caught_up(limited)


def delivered(position: int, stream: str, event: Event, *, source: str = "ledger") -> BusEvent:
    new = NewEvent.of(event, Metadata(new_id(), new_id(), "", 0))
    return BusEvent(
        source, "e1", position, stream, position, new.type, 1, position, (), new.data,
        new.metadata, confirmed=position,
    )  # fmt: skip


async def test_waiting_on_a_bus(desk: Desk) -> None:
    """What waits of a bus is tried by whoever has its partition, also after a restart."""
    desk.source = BusSource(desk.stores.bus)
    desk.handlers.faults = {name: Failing("no") for name in "abcd"}
    first = await desk.start()
    for n, name in enumerate("abcdefgh", 1):
        await desk.stores.bus.publish([delivered(n, name, Deposited(name, 1))])
    await until(lambda: set("abcd") <= set(desk.handlers.tried))
    await until(lambda: set("efgh") <= {name for name, _ in desk.handlers.handled})
    await desk.stores.bus.publish([delivered(9, "a", Opened("a", "x"))])  # nothing handles it
    await desk.stores.bus.publish([delivered(10, "a", Deposited("a", 2))])
    await first.stop()
    desk.handlers.faults.clear()
    await desk.start(owner="b", views=await desk.stores.another())
    await until(lambda: desk.amounts("a") == [1, 2])
    await until(lambda: [desk.amounts(name) for name in "bcdefgh"] == [[1]] * 7)

    async def gone() -> bool:
        return not await desk.letters()

    await until(gone)


def test_the_default_is_about_a_minute() -> None:
    """By default an event is tried for about a minute, in pauses that differ a little."""
    policy = ProcessorSettings().retry
    totals = [sum(policy.pause(n) for n in range(1, policy.attempts)) for _ in range(50)]
    assert all(45.0 < total < 75.0 for total in totals)
    assert len(set(totals)) > 1
    pauses: Callable[[int], float] = policy.pause
    assert max(pauses(n) for n in range(1, 200)) <= 1.2 * policy.pause_max_s
