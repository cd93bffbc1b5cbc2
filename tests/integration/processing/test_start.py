"""Where a new processor begins in a log with a history, and what is a replay."""

from datetime import UTC, datetime, timedelta

import pytest

from headwater.errors import ConfigurationError, DeclarationError
from headwater.eventbus import BusEvent
from headwater.eventbus.memory import MemoryEventBus
from headwater.eventstore import NewEvent, StreamWrite
from headwater.eventstore.memory import MemoryEventStore
from headwater.eventstore.sharded import ShardedEventStore
from headwater.messages import Metadata, new_id
from headwater.modelling import (
    Effects,
    EventHandlers,
    EventMessage,
    Projection,
    Saga,
    event_handler,
    saga_handler,
)
from headwater.processing import (
    BusSource,
    Processor,
    ProcessorAdmin,
    SagaProcessor,
    Source,
    StoreSource,
    rebuild,
)
from headwater.views import ViewTransaction
from headwater.views.memory import MemoryViewStore
from tests.integration.processing.bank import (
    Credited,
    TransferRequested,
    Withdraw,
    Withdrawn,
    command_bus,
)
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import AccountView, Deposited, Noted, Opened, append


class Mailer(EventHandlers):
    """Writes a letter for each note; says for each whether it was a replay."""

    name = "mailer"

    def __init__(self) -> None:
        self.mailed: list[str] = []

    @event_handler
    async def noted(self, event: Noted, message: EventMessage[Noted]) -> None:
        self.mailed.append(f"{event.text} again" if message.replaying else event.text)


def mailer_that_begins(start: object) -> Mailer:
    return type("Begins", (Mailer,), {"name": "mailer", "start": start})()


def processor(stores: Stores, handlers: EventHandlers, source: Source | None = None) -> Processor:
    return Processor(
        handlers,
        source=source or stores.source,
        views=stores.views,
        owner="me",
        settings=QUICK,
    )


async def bus_of(stores: Stores, *texts: str, begin: int = 1) -> BusSource:
    """Publish notes, one per stream."""
    for position, text in enumerate(texts, begin):
        await stores.bus.publish([delivered(position, text)])
    return BusSource(stores.bus)


def delivered(position: int, text: str) -> BusEvent:
    new = NewEvent.of(Noted(text), Metadata(new_id(), new_id(), "", 0))
    return BusEvent(
        "ledger", "e", position, text, 1, new.type, 1, position, (), new.data, new.metadata,
        confirmed=position,
    )  # fmt: skip


@pytest.mark.parametrize("on_bus", [False, True])
async def test_with_a_history_it_must_be_said(stores: Stores, on_bus: bool) -> None:
    """Who would handle what is there already does not start before somebody has said so."""
    await append(stores.store, "a", Noted("old"))
    source: Source = await bus_of(stores, "old") if on_bus else stores.source
    handlers = Mailer()
    with pytest.raises(ConfigurationError) as raised:
        await processor(stores, handlers, source).start()
    assert 'start = "beginning"' in str(raised.value)
    assert 'start = "now"' in str(raised.value)
    assert await stores.views.segments("mailer") == []
    assert handlers.mailed == []


async def test_without_a_history_nothing_need_be_said(stores: Stores) -> None:
    """Neither on an empty log nor with events of other types only; and never again afterwards."""
    await append(stores.store, "a", Opened("a", "x"))
    handlers = Mailer()
    first = await stores.start(processor(stores, handlers))
    await append(stores.store, "a", Noted("new"))
    await stores.caught_up(first)
    await first.stop()
    await stores.start(processor(stores, handlers))
    await append(stores.store, "a", Noted("newer"))
    await until(lambda: handlers.mailed == ["new", "newer"])


@pytest.mark.parametrize("on_bus", [False, True])
async def test_now_is_when_it_was_first_started(stores: Stores, on_bus: bool) -> None:
    """From now on nothing is left out and nothing of before comes, also over a crash at once."""
    source: Source = stores.source
    for name in "abcdef":
        await append(stores.store, name, Noted(name))
    if on_bus:
        source = await bus_of(stores, *"abcdef")
    first = processor(stores, mailer_that_begins("now"), source)
    await first.start()  # it ends before anything was handled
    await first.stop()
    if isinstance(stores.bus, MemoryEventBus):  # the others know what they have published
        stores.bus._published.clear()  # as a bus may, by its contract
    await stores.bus.publish([delivered(6, "f")])  # the relay does so after a crash
    for n, name in enumerate("ghijkl", 7):
        await append(stores.store, name, Noted(name))
        await bus_of(stores, name, begin=n)
    handlers = mailer_that_begins("now")
    await stores.start(processor(stores, handlers, source))
    await until(lambda: sorted(handlers.mailed) == list("ghijkl"))
    await bus_of(stores, "m", begin=13)
    await append(stores.store, "m", Noted("m"))
    await until(lambda: "m" in handlers.mailed)
    assert sorted(handlers.mailed) == list("ghijklm")


async def test_from_a_time(stores: Stores) -> None:
    """With a time, what was recorded before it is left out."""
    await append(stores.store, "a", Noted("old"))
    pages = [page async for page in stores.store.read()]
    recorded = pages[-1].events[-1].time
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=recorded + 1)

    async def later() -> bool:
        await append(stores.store, "b", Noted("new"))
        found = [event async for page in stores.store.read() for event in page.events]
        return found[-1].time > recorded

    await until(later)
    handlers = mailer_that_begins(start.isoformat())
    one = await stores.start(processor(stores, handlers))
    await stores.caught_up(one)
    assert "old again" not in handlers.mailed
    assert "new again" in handlers.mailed


async def test_now_in_each_shard() -> None:
    """In a store of several databases, now is the end of each."""
    store, views = (
        await ShardedEventStore.open([MemoryEventStore(), MemoryEventStore()]),
        MemoryViewStore(),
    )
    handlers = mailer_that_begins("now")

    async def note(*names: str) -> None:
        for name in names:
            new = NewEvent.of(Noted(name), Metadata(new_id(), new_id(), "", 0))
            await store.append([StreamWrite(name, [new])])

    await note(*"abcdef")
    source = StoreSource(store, "ledger")
    one = Processor(handlers, source=source, views=views, owner="me", settings=QUICK)
    await one.start()
    await note(*"ghijkl")
    await until(lambda: sorted(handlers.mailed) == list("ghijkl"))
    await one.stop()


def test_what_cannot_be_said() -> None:
    """A projection always begins at the beginning, and a time needs to be one, with its zone."""
    with pytest.raises(DeclarationError, match="begins at the beginning"):
        type("P", (Projection,), {"start": "now"})
    for start in ("tomorrow", 5, datetime(2026, 1, 1)):  # noqa: DTZ001  # the fault
        with pytest.raises(DeclarationError, match="start must be"):
            mailer_that_begins(start)
    with pytest.raises(DeclarationError, match="retry must be"):
        type("H", (EventHandlers,), {"retry": 5})
    with pytest.raises(DeclarationError, match="timeout_s must be"):
        type("H", (EventHandlers,), {"timeout_s": 0})


class Late(Saga):
    saga_name = "late"
    saga_start = "now"

    @saga_handler(key="transfer_id", starts=True)
    def requested(self, event: TransferRequested) -> Effects:
        return Withdraw(event.source, event.amount, self.id)

    @saga_handler(key="reference")
    def credited(self, event: Credited) -> Effects:
        return Withdraw("nobody", 1, self.id)


class Unsaid(Late):
    saga_name = "unsaid"
    saga_start = ""


async def test_sagas_that_would_have_begun_before(stores: Stores) -> None:
    """What comes later for a saga from before the start finds none."""
    await append(stores.store, "t", TransferRequested("t1", "a", "b", 5))
    bus, _ = command_bus(stores.store)
    with pytest.raises(ConfigurationError, match="saga_start"):
        await SagaProcessor(
            Unsaid, source=stores.source, views=stores.views, owner="me", commands=bus
        ).start()
    one = SagaProcessor(
        Late, source=stores.source, views=stores.views, owner="me", commands=bus, settings=QUICK
    )
    await stores.start(one)
    await append(stores.store, "x", Credited("b", 5, "t1"), TransferRequested("t2", "c", "d", 7))
    await stores.caught_up(one)

    async def tried() -> bool:  # the account is not there: a letter of the saga
        return (
            await ProcessorAdmin(one.applier, source=stores.source, views=stores.views).status()
        ).dead_letters == 1

    await until(tried)
    assert Withdrawn  # only t2 was begun


async def test_what_is_a_replay(stores: Stores) -> None:
    """History is a replay, and what is handled once more after a reset; the rest is not."""
    old = [f"n{n}" for n in range(50)]  # some pages
    await append(stores.store, "a", *map(Noted, old))
    handlers = mailer_that_begins("beginning")
    one = await stores.start(processor(stores, handlers))
    await append(stores.store, "a", Noted("new"))
    await stores.caught_up(one)
    assert handlers.mailed == [*[f"{name} again" for name in old], "new"]
    handlers.mailed.clear()
    admin = ProcessorAdmin(handlers, source=stores.source, views=stores.views)
    await admin.reset(position=1)
    again = [f"{name} again" for name in [*old[1:], "new"]]
    await until(lambda: handlers.mailed == again)
    await append(stores.store, "a", Noted("newer"))
    await until(lambda: handlers.mailed[len(again) :] == ["newer"])


@pytest.mark.parametrize("count", [1, 3])
async def test_a_replay_over_a_resize(stores: Stores, count: int) -> None:
    """A split or a merge in the middle of a replay changes nothing of what is one."""
    names = [f"s{n}" for n in range(12)]
    for name in names:
        await append(stores.store, name, Noted(name))
    handlers = mailer_that_begins("beginning")
    first = processor(stores, handlers)
    await first.start()  # it ends before anything was handled
    await first.stop()
    admin = ProcessorAdmin(handlers, source=stores.source, views=stores.views)
    await admin.resize(count)
    one = await stores.start(processor(stores, handlers))
    for name in names:
        await append(stores.store, name, Noted(f"{name} new"))
    await stores.caught_up(one)
    assert set(handlers.mailed) == {f"{name} again" for name in names} | {
        f"{name} new" for name in names
    }


async def test_handlers_can_be_left_out_of_replays(stores: Stores) -> None:
    """A handler that is declared so sees no replay, of a reset, a rebuild or a history."""
    told: list[str] = []

    class Accounts(Projection):
        name = "accounts"

        @event_handler(AccountView, key="account_id")
        def opened(self, event: Opened) -> AccountView:
            return AccountView(event.account_id, event.holder)

        @event_handler(replay=False)
        async def tell(self, event: Opened) -> None:
            told.append(event.account_id)

        @event_handler(replay=False)
        async def count(self, event: Deposited, transaction: ViewTransaction) -> None:
            told.append(f"{event.account_id} {event.amount}")

    await append(stores.store, "a", Opened("a", "x"), Deposited("a", 1))
    one = await stores.start(processor(stores, Accounts()))
    await append(stores.store, "b", Opened("b", "x"), Deposited("b", 2))
    await stores.caught_up(one)
    assert sorted(set(told)) == ["b", "b 2"]
    told.clear()
    admin = ProcessorAdmin(Accounts, source=stores.source, views=stores.views)
    await admin.reset()

    async def replayed() -> bool:
        return (
            await stores.views.generation("accounts") == 2
            and (await admin.status()).lag == 0
            and await stores.views.count(AccountView) == 2
        )

    await until(replayed)
    await rebuild(Accounts, source=stores.source, views=stores.views, owner="r", settings=QUICK)
    assert told == []
    await append(stores.store, "c", Opened("c", "x"))
    await until(lambda: "c" in told)


async def test_a_letter_of_a_replay_stays_one(stores: Stores) -> None:
    """What failed in a replay is a replay when it is tried again, by itself or by hand."""
    ill = [True]

    class Picky(Mailer):
        name = "picky"
        start = "beginning"

        @event_handler
        async def noted(self, event: Noted, message: EventMessage[Noted]) -> None:
            if ill[0]:
                raise ValueError
            await super().noted(event, message)

    await append(stores.store, "a", Noted("one"), Noted("two"))
    handlers = Picky()
    one = await stores.start(processor(stores, handlers))
    await append(stores.store, "a", Noted("three"))
    await stores.caught_up(one)
    ill[0] = False
    admin = ProcessorAdmin(handlers, source=stores.source, views=stores.views)
    assert (await admin.retry("a")).handled == 3
    assert handlers.mailed == ["one again", "two again", "three"]
