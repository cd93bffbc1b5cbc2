"""Projections over a store: exactly once, in order, live and from the past."""

import asyncio
from typing import Annotated

import pytest

from headwater.errors import MalformedMessage, NotCaughtUp, TokenMismatch
from headwater.messages import ConsistencyToken, current, upcaster, wire
from headwater.messages.types import Event
from headwater.modelling import EventHandlers, Projection, event_handler
from headwater.processing import Processor
from headwater.views import Index, Key, View, ViewTransaction
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import (
    AccountView,
    Closed,
    Deposited,
    Ledger,
    MonthView,
    Noted,
    NoteView,
    Opened,
    append,
)


def ledger(stores: Stores, owner: str = "me", handlers: Ledger | None = None) -> Processor:
    return Processor(
        handlers or Ledger(),
        source=stores.source,
        views=stores.views,
        owner=owner,
        settings=QUICK,
    )


async def test_catches_up_and_goes_on_live(stores: Stores) -> None:
    """Events from before the start and after it end up in the views alike."""
    await append(stores.store, "a", Opened("a", "Ada"), Deposited("a", 5))
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    assert await stores.views.get(AccountView, "a") == AccountView("a", "Ada", 5, 1, 2)
    await append(stores.store, "a", Deposited("a", 7, "2024-02"))
    await stores.caught_up(processor)
    account = await stores.views.get(AccountView, "a")
    assert account is not None
    assert account.balance == 12
    months = (await stores.views.find(MonthView)).items
    assert months == [MonthView("2024-01", 5), MonthView("2024-02", 7)]


async def test_deleting_handler_removes_and_opening_creates_again(stores: Stores) -> None:
    """Deleting and creating within one batch leaves what the last event says."""
    await append(stores.store, "a", Opened("a", "Ada"), Deposited("a", 5), Closed("a"))
    await append(stores.store, "b", Opened("b", "Bob"), Closed("b"), Opened("b", "Bert"))
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    assert await stores.views.get(AccountView, "a") is None
    assert await stores.views.get(AccountView, "b") == AccountView("b", "Bert")


class Counted(Event, rename="kebab"):
    item_no: str
    how_many: int


class CountedView(View, rename="camel"):
    item_no: Annotated[str, Key]
    in_stock: Annotated[int, Index] = 0


class RowView(View, array_like=True):
    row_no: Annotated[int, Key]
    in_stock: int = 0


async def test_views_and_events_with_other_names_in_json(stores: Stores) -> None:
    """Views and events whose stored form has other names, or none, are kept as any."""

    class Stock(Projection):
        @event_handler(CountedView, key="item_no")
        def counted(self, view: CountedView, event: Counted) -> None:
            view.in_stock += event.how_many

        @event_handler(RowView, key="item_no")
        def row(self, view: RowView, event: Counted) -> None:
            view.in_stock += event.how_many

    await append(stores.store, "7", Counted("7", 2), Counted("7", 3))
    processor = await stores.start(
        Processor(Stock, source=stores.source, views=stores.views, owner="me", settings=QUICK)
    )
    await processor.wait_for(stores.at(2), timeout_s=10)
    assert (await stores.views.find(CountedView, where={"in_stock": 5})).items == [
        CountedView("7", 5)
    ]
    assert await stores.views.get(RowView, "7") == RowView(7, 5)


async def test_free_form_handler_sees_what_came_before_it(stores: Stores) -> None:
    """A free-form handler in the middle of a batch sees the keyed effects before it, not after."""
    await append(
        stores.store,
        "a",
        Opened("a", "Ada"),
        Deposited("a", 5),
        Noted("now"),
        Deposited("a", 6),
        Noted("then"),
    )
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    notes = (await stores.views.find(NoteView)).items
    assert notes == [NoteView("3", "now", 5), NoteView("5", "then", 11)]


async def test_effects_are_there_once_over_restarts(stores: Stores) -> None:
    """Stopping and starting anywhere neither loses nor repeats an effect."""
    await append(stores.store, "a", Opened("a", "Ada"))
    for turn in range(5):
        processor = ledger(stores, owner=f"turn-{turn}")
        await processor.start()
        for _ in range(20):
            await append(stores.store, "a", Deposited("a", 1))
        await processor.stop()  # wherever it is
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    account = await stores.views.get(AccountView, "a")
    assert account is not None
    assert (account.balance, account.events) == (100, 100)


async def test_wait_for_times_out_and_names_the_gap(stores: Stores) -> None:
    """A token that is not reached in time raises NotCaughtUp with both positions."""
    await append(stores.store, "a", Opened("a", "Ada"))
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    with pytest.raises(NotCaughtUp) as raised:
        await processor.wait_for(stores.at(9), timeout_s=0.02)
    assert (raised.value.position, raised.value.expected) == (1, 9)


async def test_wait_for_refuses_what_it_can_never_reach(stores: Stores) -> None:
    """A token of a replaced store or of no shard is an error; of what nobody follows, nothing."""
    processor = await stores.start(ledger(stores))
    await stores.caught_up(processor)
    with pytest.raises(TokenMismatch):
        await processor.wait_for(ConsistencyToken.at("ledger", "other", 1), timeout_s=1)
    elsewhere = ConsistencyToken.at("elsewhere", "e", 99)
    await processor.wait_for(elsewhere, timeout_s=1)
    with pytest.raises(MalformedMessage, match="names shard 3 of 'ledger', which has 1"):
        await processor.wait_for(
            ConsistencyToken.at("ledger", stores.store.epoch, 1, shard=3), timeout_s=60
        )


async def test_wait_for_ignores_other_sources_beside_its_own(stores: Stores) -> None:
    """Of a token of several sources, as of a session with several services, its own count."""
    processor = await stores.start(ledger(stores))
    await append(stores.store, "a", Opened("a", "Ada"))
    elsewhere = ConsistencyToken.at("elsewhere", "e", 99)
    await processor.wait_for(stores.at(1).merge(elsewhere), timeout_s=10)
    assert await stores.views.get(AccountView, "a") is not None
    with pytest.raises(NotCaughtUp):
        await processor.wait_for(stores.at(9).merge(elsewhere), timeout_s=0.02)
    await processor.wait_for(ConsistencyToken({}), timeout_s=10)  # it asks for nothing


async def test_wait_for_works_where_nothing_runs(stores: Stores) -> None:
    """A process that works on no segment learns of progress through the view store."""
    processor = await stores.start(ledger(stores))
    watching = ledger(stores, owner="watching")
    waiting = asyncio.create_task(watching.wait_for(stores.at(2), timeout_s=5))
    await append(stores.store, "a", Opened("a", "Ada"))
    await stores.caught_up(processor)
    assert not waiting.done()
    await append(stores.store, "a", Deposited("a", 1))
    await waiting
    account = await stores.views.get(AccountView, "a")
    assert account is not None
    assert account.balance == 1
    await watching.stop()


async def test_two_owners_share_the_segments(stores: Stores) -> None:
    """A process that joins gets its share, and one that leaves gives its share back."""
    first = await stores.start(ledger(stores, owner="one"))
    second = await stores.start(ledger(stores, owner="two"))
    await until(lambda: (len(first.claims.held), len(second.claims.held)) == (2, 2))
    for number in range(40):
        await append(
            stores.store, f"a{number}", Opened(f"a{number}", "x"), Deposited(f"a{number}", 1)
        )
    await stores.caught_up(first)
    assert await stores.views.count(AccountView) == 40
    handled = [(await processor.status()).handled for processor in (first, second)]
    assert sum(handled) == 80
    assert min(handled) > 0
    await second.stop()
    await until(lambda: len(first.claims.held) == 4)
    await append(stores.store, "late", Opened("late", "x"))
    await stores.caught_up(first)
    assert await stores.views.count(AccountView) == 41


async def test_handlers_run_in_the_context_of_their_event(stores: Stores) -> None:
    """What a handler sends would name the event as its cause."""
    seen: list[str] = []

    class Listening(EventHandlers):
        start = "beginning"

        @event_handler
        async def noted(self, event: Noted) -> None:
            context = current()
            assert context is not None
            seen.append(context.metadata.correlation_id)

    await append(stores.store, "a", Noted("x"))
    processor = await stores.start(
        Processor(Listening, source=stores.source, views=stores.views, owner="me", settings=QUICK)
    )
    await stores.caught_up(processor)
    async for page in stores.store.read():
        assert seen == [msg.metadata.decode().split('"')[3] for msg in page.events]


async def test_unknown_types_are_skipped_and_old_versions_lifted(stores: Stores) -> None:
    """Types without a handler cost nothing and stop nothing; older content is upcast."""

    @wire("Noted", version=2)
    class NotedToday(Event):
        text: str
        shout: bool

    @upcaster(NotedToday, from_version=1)
    def lift(content: dict[str, object]) -> dict[str, object]:
        return {**content, "shout": content["text"] == "HEY"}

    class Shouts(Projection):
        view_types = (NoteView,)

        @event_handler
        async def noted(self, event: NotedToday, transaction: ViewTransaction) -> None:
            await transaction.save([NoteView(event.text, str(event.shout))])

    await append(stores.store, "a", Opened("a", "Ada"), Noted("HEY"), Closed("a"), Noted("hm"))
    processor = await stores.start(
        Processor(Shouts, source=stores.source, views=stores.views, owner="me", settings=QUICK)
    )
    await stores.caught_up(processor)
    notes = (await stores.views.find(NoteView)).items
    assert notes == [NoteView("HEY", "True"), NoteView("hm", "False")]


async def test_many_waiters_at_once(stores: Stores) -> None:
    """Each waiter returns when its own token is reached."""
    processor = await stores.start(ledger(stores))
    await append(stores.store, "a", Opened("a", "Ada"))

    async def deposit(number: int) -> None:
        position = await append(stores.store, f"a{number}", Opened(f"a{number}", "x"))
        await processor.wait_for(stores.at(position), timeout_s=10)
        assert await stores.views.get(AccountView, f"a{number}") is not None

    await asyncio.gather(*(deposit(number) for number in range(100)))
