"""A token of what is parked is answered with an error of its own, never with the old view."""

import msgspec
import pytest

from headwater.errors import EventParked, NotCaughtUp
from headwater.eventbus import BusEvent
from headwater.eventstore import NewEvent, StreamWrite
from headwater.eventstore.memory import MemoryEventStore
from headwater.messages import ConsistencyToken, Event, Metadata, new_id
from headwater.processing import BusSource, Processor, ProcessorAdmin, StoreSource, rebuild
from headwater.processing.sources.tokens import token_of
from headwater.views import Segment, View, ViewStore
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import (
    AccountView,
    Deposited,
    Ledger,
    Opened,
    append,
)

POISON = 666
WAIT_S = 30.0


class Ignored(Event):
    """Nothing in the ledger handles it."""

    account_id: str


class Ledgers:
    """Processes that keep the views of one ledger in one store."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.handlers = Ledger()
        self.handlers.poison = {POISON}
        self.settings = QUICK

    def made(self, owner: str, views: ViewStore | None = None) -> Processor:
        """Return a processor that does not run."""
        return Processor(
            self.handlers,
            source=self.stores.source,
            views=views or self.stores.views,
            owner=owner,
            settings=self.settings,
        )

    async def start(self, owner: str = "one", views: ViewStore | None = None) -> Processor:
        return await self.stores.start(self.made(owner, views))

    @property
    def admin(self) -> ProcessorAdmin:
        return ProcessorAdmin(
            self.handlers, source=self.stores.source, views=self.stores.views, settings=QUICK
        )

    async def parked(self, account: str = "a") -> int:
        """Let a deposit of an account be parked; return its position."""
        await append(self.stores.store, account, Opened(account, "x"))
        return await append(self.stores.store, account, Deposited(account, POISON))

    async def shown(self, processor: Processor, position: int, account: str = "a") -> int:
        """Return the balance that a query with a token sees."""
        await processor.wait_for(self.stores.at(position), timeout_s=WAIT_S)
        view = await self.stores.views.get(AccountView, account)
        assert view is not None
        return view.balance

    async def refused(self, processor: Processor, position: int) -> EventParked:
        """Return the error that a query with a token gets."""
        with pytest.raises(EventParked) as raised:
            await processor.wait_for(self.stores.at(position), timeout_s=WAIT_S)
        return raised.value


@pytest.fixture
def ledgers(stores: Stores) -> Ledgers:
    """Ledgers on all backends."""
    return Ledgers(stores)


def unmarked(segment: Segment) -> Segment:
    """Return a segment that nobody holds, its token as it was before tokens told of letters."""
    token = msgspec.structs.replace(token_of(segment.token), parked=0)
    return msgspec.structs.replace(segment, token=token.text, owner="", lease_until=0.0)


async def written(stores: Stores, stream: str, *events: Event) -> int:
    """Append the events of one command."""
    cause = new_id()
    new = [NewEvent.of(event, Metadata(new_id(), cause, cause, 0)) for event in events]
    return (await stores.store.append([StreamWrite(stream, new)])).last


async def test_the_token_of_a_parked_event(ledgers: Ledgers) -> None:
    """The token of a parked event is refused with processor, sequence and position."""
    processor = await ledgers.start()
    position = await ledgers.parked()
    refused = await ledgers.refused(processor, position)
    assert refused.fields() == {
        "processor": "ledger",
        "sequence": "a",
        "position": position,
        "expected": position,
    }
    assert refused.status == 409


async def test_who_waits_while_it_is_parked(ledgers: Ledgers) -> None:
    """Who waits already when an event is parked is told so then, not at the end of its time."""
    position = await ledgers.parked()
    processor = await ledgers.start()
    await ledgers.refused(processor, position)
    assert await ledgers.shown(processor, position - 1) == 0


async def test_later_events_of_the_sequence(ledgers: Ledgers) -> None:
    """What comes behind a parked event is not shown, either; the first one is named."""
    processor = await ledgers.start()
    first = await ledgers.parked()
    behind = await append(ledgers.stores.store, "a", Deposited("a", 1))
    refused = await ledgers.refused(processor, behind)
    assert (refused.position, refused.expected) == (first, behind)


async def test_tokens_of_others(ledgers: Ledgers) -> None:
    """Tokens of other sequences, and of what came before, are answered as ever."""
    processor = await ledgers.start()
    before = await append(ledgers.stores.store, "b", Opened("b", "x"), Deposited("b", 1))
    position = await ledgers.parked()
    after = await append(ledgers.stores.store, "b", Deposited("b", 2))
    await ledgers.refused(processor, position)
    assert await ledgers.shown(processor, after, "b") == 3
    assert await ledgers.shown(processor, before, "b") == 3
    assert await ledgers.shown(processor, position - 1) == 0


async def test_a_command_whose_last_event_is_ignored(ledgers: Ledgers) -> None:
    """A command's token names its last event; an earlier one that is parked counts as well."""
    processor = await ledgers.start()
    stores = ledgers.stores
    await append(stores.store, "a", Opened("a", "x"))
    last = await written(stores, "a", Deposited("a", POISON), Ignored("a"), Ignored("a"))
    refused = await ledgers.refused(processor, last)
    assert (refused.sequence, refused.position, refused.expected) == ("a", last - 2, last)
    await append(stores.store, "b", Opened("b", "x"))
    other = await written(stores, "b", Deposited("b", 1), Ignored("b"))
    assert await ledgers.shown(processor, other, "b") == 1


async def test_a_command_of_several_streams(ledgers: Ledgers) -> None:
    """If one stream of several that were written together is parked, the write is not shown."""
    processor = await ledgers.start()
    stores, cause = ledgers.stores, new_id()
    for name in "ab":
        await append(stores.store, name, Opened(name, "x"))
    writes = [
        StreamWrite(
            stream, [NewEvent.of(Deposited(stream, amount), Metadata(new_id(), cause, cause, 0))]
        )
        for stream, amount in (("a", POISON), ("b", 1))
    ]
    last = (await stores.store.append(writes)).last
    assert (await ledgers.refused(processor, last)).sequence == "a"


async def test_retried_and_dropped(ledgers: Ledgers) -> None:
    """A letter that is retried with success frees its tokens; one that is dropped counts as seen.

    As long as it fails again, the tokens stay refused.
    """
    processor = await ledgers.start()
    position = await ledgers.parked()
    behind = await append(ledgers.stores.store, "a", Deposited("a", 1))
    await ledgers.refused(processor, behind)
    assert (await ledgers.admin.retry("a")).failed
    await ledgers.refused(processor, position)
    ledgers.handlers.poison = set()
    assert (await ledgers.admin.retry("a")).handled == 2
    assert await ledgers.shown(processor, behind) == POISON + 1
    ledgers.handlers.poison = {POISON}
    again = await append(ledgers.stores.store, "a", Deposited("a", POISON))
    await ledgers.refused(processor, again)
    assert await ledgers.admin.drop("a") == 1
    assert await ledgers.shown(processor, again) == POISON + 1


async def test_another_process_answers(ledgers: Ledgers) -> None:
    """A process that works on none of the segments refuses as well, and answers when it may."""
    stores = ledgers.stores
    await ledgers.start("working")
    asked = ledgers.made("asked", await stores.another())
    position = await ledgers.parked()
    await ledgers.refused(asked, position)
    other = await append(stores.store, "b", Opened("b", "x"))
    assert await ledgers.shown(asked, other, "b") == 0
    ledgers.handlers.poison = set()
    await ledgers.admin.retry("a")
    assert await ledgers.shown(asked, position) == POISON
    await asked.stop()


async def test_two_processes_share_the_work(ledgers: Ledgers) -> None:
    """Whoever has parked an event, all processes refuse its token, also one that came later."""
    stores = ledgers.stores
    processors = [await ledgers.start("one"), await ledgers.start("two", await stores.another())]
    await until(lambda: all(len(p.claims.held) == 2 for p in processors))
    positions = {name: await ledgers.parked(name) for name in "abcdefgh"}
    late = ledgers.made("late", await stores.another())
    for name, position in positions.items():
        for processor in (*processors, late):
            assert (await ledgers.refused(processor, position)).sequence == name
    await late.stop()


async def test_while_there_is_nothing_to_do(ledgers: Ledgers) -> None:
    """Passing over events that nothing handles forgets no letters, here or in other processes."""
    stores = ledgers.stores
    processor = await ledgers.start()
    position = await ledgers.parked()
    await ledgers.refused(processor, position)
    for _ in range(3):
        passed = await append(stores.store, "z", Ignored("z"))
        await processor.wait_for(stores.at(passed), timeout_s=WAIT_S)
        await ledgers.refused(processor, position)

    async def committed() -> bool:
        segments = await stores.views.segments("ledger")
        return all(token_of(s.token).position("ledger") == passed for s in segments)

    await until(committed)
    asked = ledgers.made("asked", await stores.another())
    await ledgers.refused(asked, position)
    await asked.stop()


async def test_after_a_restart(ledgers: Ledgers) -> None:
    """A process that takes over knows of the letters of the one before."""
    first = await ledgers.start()
    position = await ledgers.parked()
    await ledgers.refused(first, position)
    await first.stop()
    second = await ledgers.start("two")
    await ledgers.refused(second, position)


async def test_letters_of_an_earlier_release(ledgers: Ledgers) -> None:
    """Letters whose tracking tokens say nothing of them, as once, are known when claimed."""
    stores = ledgers.stores
    first = await ledgers.start()
    position = await ledgers.parked()
    await ledgers.refused(first, position)
    await first.stop()
    async with stores.views.transaction() as transaction:
        segments = await transaction.segments("ledger", generation=1)
        await transaction.replace_segments([unmarked(segment) for segment in segments])
    asked = ledgers.made("asked", await stores.another())
    await ledgers.start("two")

    async def told() -> bool:
        segments = await stores.views.segments("ledger")
        return any(token_of(segment.token).parked for segment in segments)

    await until(told)
    await ledgers.refused(asked, position)
    await asked.stop()


@pytest.mark.parametrize("count", [1, 3, 8])
async def test_after_a_resize(ledgers: Ledgers, count: int) -> None:
    """Splitting and merging segments keeps what is known of letters."""
    processor = await ledgers.start()
    position = await ledgers.parked()
    await ledgers.refused(processor, position)
    await ledgers.admin.resize(count)
    asked = ledgers.made("asked", await ledgers.stores.another())
    await ledgers.refused(asked, position)
    await ledgers.refused(processor, position)
    other = await append(ledgers.stores.store, "b", Opened("b", "x"))
    assert await ledgers.shown(processor, other, "b") == 0
    await ledgers.refused(asked, position)
    await asked.stop()


async def test_after_a_replay_of_later_events(ledgers: Ledgers) -> None:
    """A replay from a position keeps the letters of older events, and their tokens refused."""
    processor = await ledgers.start()
    position = await ledgers.parked()
    await ledgers.refused(processor, position)
    await ledgers.admin.reset(position=position)
    await ledgers.refused(processor, position)
    asked = ledgers.made("asked", await ledgers.stores.another())
    await ledgers.refused(asked, position)
    await asked.stop()


async def test_after_a_rebuild(ledgers: Ledgers) -> None:
    """Rebuilt views show what they have handled; letters of the former ones do not count."""
    processor = await ledgers.start()
    position = await ledgers.parked()
    await ledgers.refused(processor, position)

    async def rebuilt() -> None:
        views, source = ledgers.stores.views, ledgers.stores.source
        await rebuild(
            ledgers.handlers, source=source, views=views, owner="rebuilder", settings=QUICK
        )

    await rebuilt()
    await ledgers.refused(processor, position)  # it was parked again
    ledgers.handlers.poison = set()
    await rebuilt()
    assert await ledgers.shown(processor, position) == POISON


async def test_nothing_is_looked_up_without_letters(
    ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without letters a token costs no I/O; when the last one is gone it soon costs none again."""
    stores, looked_up = ledgers.stores, []
    find = type(stores.views).find

    async def counting(self: ViewStore, view: type[View], **options: object) -> object:
        looked_up.append(view.__name__)
        return await find(self, view, **options)  # type: ignore[arg-type]  # passed on as they came

    processor = await ledgers.start()
    position = await append(stores.store, "b", Opened("b", "x"))
    assert await ledgers.shown(processor, position, "b") == 0
    monkeypatch.setattr(type(stores.views), "find", counting)
    for _ in range(10):
        await processor.wait_for(stores.at(position), timeout_s=WAIT_S)
    assert "DeadLetter" not in looked_up
    await ledgers.refused(processor, await ledgers.parked())
    assert "DeadLetter" in looked_up
    await ledgers.admin.drop("a")

    async def told() -> bool:
        await append(stores.store, "b", Deposited("b", 1))
        segments = await stores.views.segments("ledger")
        return not any(token_of(segment.token).parked for segment in segments)

    await until(told)


# the bus ------------------------------------------------------------------------------------------


def delivered(
    position: int, stream: str, event: Event, *, source: str = "ledger", cause: str = ""
) -> BusEvent:
    new = NewEvent.of(event, Metadata(new_id(), cause, cause, 0))
    return BusEvent(
        source, "e1", position, stream, position, new.type, 1, position, (), new.data,
        new.metadata, confirmed=position,
    )  # fmt: skip


def at(position: int, *, source: str = "ledger") -> ConsistencyToken:
    return ConsistencyToken.at(source, "e1", position)


async def test_parked_events_of_a_bus(ledgers: Ledgers) -> None:
    """A view that follows the bus refuses tokens of other services' events that are parked."""
    stores = ledgers.stores

    def made(owner: str, views: ViewStore) -> Processor:
        return Processor(
            ledgers.handlers,
            source=BusSource(stores.bus),
            views=views,
            owner=owner,
            settings=QUICK,
        )

    processor = await stores.start(made("one", stores.views))
    asked = made("asked", await stores.another())
    await stores.bus.publish(
        [
            delivered(1, "a", Opened("a", "x")),
            delivered(2, "b", Opened("b", "x")),
            delivered(3, "a", Deposited("a", POISON), cause="c1"),
            delivered(4, "a", Ignored("a"), cause="c1"),
            delivered(5, "b", Deposited("b", 1), cause="c2"),
            delivered(3, "a", Opened("c", "x"), source="other"),
        ]
    )
    for one in (processor, asked):
        for position in (3, 4):
            with pytest.raises(EventParked) as raised:
                await one.wait_for(at(position), timeout_s=WAIT_S)
            assert (raised.value.sequence, raised.value.position) == ("ledger:a", 3)
        for position in (1, 2, 5):
            await one.wait_for(at(position), timeout_s=WAIT_S)
        await one.wait_for(at(3, source="other"), timeout_s=WAIT_S)
    await stores.bus.publish([delivered(6, "a", Ignored("a")), delivered(7, "b", Ignored("b"))])
    for one in (processor, asked):
        with pytest.raises(EventParked):
            await one.wait_for(at(6), timeout_s=WAIT_S)
        await one.wait_for(at(7), timeout_s=WAIT_S)
    ledgers.handlers.poison = set()
    admin = ProcessorAdmin(
        ledgers.handlers, source=BusSource(stores.bus), views=stores.views, settings=QUICK
    )
    assert (await admin.retry("ledger:a")).failed is None
    for one in (processor, asked):
        for position in (3, 4, 6):
            await one.wait_for(at(position), timeout_s=WAIT_S)
    await asked.stop()


# waits in vain ------------------------------------------------------------------------------------


async def test_a_token_beyond_the_end_of_the_store(ledgers: Ledgers) -> None:
    """What the store does not hold is told so when the time is over."""
    processor = await ledgers.start()
    with pytest.raises(NotCaughtUp, match=r"the event store ends at 0") as raised:
        await processor.wait_for(ledgers.stores.at(9), timeout_s=0.02)
    assert raised.value.status == 503


async def test_views_of_a_replaced_store(ledgers: Ledgers) -> None:
    """Views that were made from the store before are filled anew from the one that is there now."""
    stores = ledgers.stores
    former = await ledgers.start()
    await append(stores.store, "a", Opened("a", "x"), Deposited("a", 1), Deposited("a", 2))
    await stores.caught_up(former)
    await former.stop()
    replaced = MemoryEventStore()
    position = await append(replaced, "b", Opened("b", "x"))
    token = ConsistencyToken.at("ledger", replaced.epoch, position)
    processor = await stores.start(
        Processor(
            Ledger,
            source=StoreSource(replaced, "ledger"),
            views=stores.views,
            owner="two",
            settings=QUICK,
        )
    )
    await processor.wait_for(token, timeout_s=WAIT_S)
    assert await stores.views.get(AccountView, "a") is None
    assert await stores.views.get(AccountView, "b") == AccountView("b", "x")


async def test_segments_that_nobody_works_on(ledgers: Ledgers) -> None:
    """Where nobody works on a processor, who waits for it is told so."""
    position = await append(ledgers.stores.store, "a", Opened("a", "x"))
    idle = ledgers.made("idle")
    with pytest.raises(NotCaughtUp, match=r"nobody works on any of its 0 segments"):
        await idle.wait_for(ledgers.stores.at(position), timeout_s=0.02)
    working = await ledgers.start("working")
    await idle.wait_for(ledgers.stores.at(position), timeout_s=WAIT_S)
    await working.stop()
    later = await append(ledgers.stores.store, "a", Deposited("a", 1))
    with pytest.raises(NotCaughtUp, match=r"nobody works on 4 of its 4 segments"):
        await idle.wait_for(ledgers.stores.at(later), timeout_s=0.02)
    await idle.stop()
