"""An event that fails: retried, then its stream is parked while all others go on."""

import pytest

from headwater.errors import StoreUnavailable
from headwater.modelling import EventHandlers, event_handler
from headwater.processing import DeadLetter, Processor, ProcessorAdmin, Retried
from headwater.views import ViewTransaction
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import (
    AccountView,
    Deposited,
    Ledger,
    Noted,
    Opened,
    append,
)

POISON = 666


def setup(stores: Stores) -> tuple[Ledger, Processor, ProcessorAdmin]:
    handlers = Ledger()
    handlers.poison = {POISON}
    processor = Processor(
        handlers, source=stores.source, views=stores.views, owner="me", settings=QUICK
    )
    admin = ProcessorAdmin(handlers, source=stores.source, views=stores.views, settings=QUICK)
    return handlers, processor, admin


async def letters(admin: ProcessorAdmin, sequence: str = "") -> list[DeadLetter]:
    return [letter async for letter in admin.letters(sequence)]


async def balance(stores: Stores, account: str) -> int:
    view = await stores.views.get(AccountView, account)
    return -1 if view is None else view.balance


async def test_parks_the_stream_and_everything_behind_it(stores: Stores) -> None:
    """The failed event and all later ones of its stream are parked in order; others go on."""
    handlers, processor, admin = setup(stores)
    for name in "abcdefgh":
        await append(stores.store, name, Opened(name, name), Deposited(name, 1))
    await append(stores.store, "a", Deposited("a", 2), Deposited("a", POISON), Deposited("a", 4))
    await stores.start(processor)
    await stores.caught_up(processor)
    await append(stores.store, "a", Deposited("a", 8))
    for name in "bcdefgh":
        await append(stores.store, name, Deposited(name, 10))
    await stores.caught_up(processor)
    assert await balance(stores, "a") == 3  # what came before the failed event is there
    assert [await balance(stores, name) for name in "bcdefgh"] == [11] * 7
    parked = await letters(admin)
    assert [(p.sequence, p.event and p.event.version) for p in parked] == [
        ("a", 4),
        ("a", 5),
        ("a", 6),
    ]
    assert parked[0].attempts == QUICK.retry.attempts
    assert "cannot take 666" in parked[0].error
    assert [p.error for p in parked[1:]] == ["", ""]
    assert (await admin.status()).dead_letters == 3
    assert handlers.calls >= QUICK.retry.attempts


async def test_retry_goes_in_order_and_stops_at_the_first_failure(stores: Stores) -> None:
    """A retry that fails keeps the rest parked; one that succeeds frees the stream."""
    handlers, processor, admin = setup(stores)
    await append(stores.store, "a", Opened("a", "a"), Deposited("a", POISON), Deposited("a", 2))
    await stores.start(processor)
    await stores.caught_up(processor)
    retried = await admin.retry("a")
    assert retried.handled == 0
    assert retried.failed is not None
    assert retried.failed.attempts == QUICK.retry.attempts + 1
    assert [letter.attempts for letter in await letters(admin)] == [QUICK.retry.attempts + 1, 0]
    handlers.poison = set()
    assert await admin.retry("a") == Retried(2)
    assert await letters(admin) == []
    await append(stores.store, "a", Deposited("a", 4))
    await stores.caught_up(processor)
    assert await balance(stores, "a") == POISON + 6


async def test_dropping_skips_what_was_parked(stores: Stores) -> None:
    """A dropped letter is never handled; the others stay, and with none left the stream goes on."""
    _, processor, admin = setup(stores)
    await append(stores.store, "a", Opened("a", "a"), Deposited("a", POISON), Deposited("a", 2))
    await stores.start(processor)
    await stores.caught_up(processor)
    first = (await letters(admin, "a"))[0]
    assert await admin.drop("a", letter=first.id) == 1
    assert (await admin.retry("a")).handled == 1
    assert await balance(stores, "a") == 2
    await append(stores.store, "a", Deposited("a", POISON))
    await stores.caught_up(processor)
    assert await admin.drop("a") == 1
    await append(stores.store, "a", Deposited("a", 4))
    await stores.caught_up(processor)
    assert await balance(stores, "a") == 6


async def test_parking_survives_restarts(stores: Stores) -> None:
    """Another process that takes over keeps later events of the stream behind the parked one."""
    _, processor, admin = setup(stores)
    await append(stores.store, "a", Opened("a", "a"), Deposited("a", POISON))
    await stores.start(processor)
    await stores.caught_up(processor)
    await processor.stop()
    await append(stores.store, "a", Deposited("a", 1))
    _, following, _ = setup(stores)
    await stores.start(following)
    await stores.caught_up(following)
    assert await balance(stores, "a") == 0
    assert len(await letters(admin)) == 2


async def test_a_missing_view_parks(stores: Stores) -> None:
    """A keyed handler whose view cannot be started fails with ViewNotFound."""
    _, processor, admin = setup(stores)
    await append(stores.store, "a", Deposited("a", 1))
    await stores.start(processor)
    await stores.caught_up(processor)
    assert [letter.code for letter in await letters(admin)] == ["view-not-found"]


async def test_views_that_cannot_be_stored_are_blamed_on_their_event(stores: Stores) -> None:
    """A fault that shows only when a batch is saved parks the one stream that causes it."""
    _, processor, admin = setup(stores)
    await append(stores.store, "a", Opened("a", "a"))
    await append(stores.store, "b", Opened("b", "unstorable"))
    await append(stores.store, "c", Opened("c", "c"))
    await stores.start(processor)
    await stores.caught_up(processor)
    assert [letter.sequence for letter in await letters(admin)] == ["b"]
    assert [await balance(stores, name) for name in "abc"] == [0, -1, 0]


@pytest.mark.parametrize("times", [1, 7])
async def test_what_is_merely_away_is_waited_for(stores: Stores, times: int) -> None:
    """Unavailable is no poison: the event is tried until it works, and the status tells."""
    handled: list[str] = []
    failing = [times]

    class Calling(EventHandlers):
        start = "beginning"

        @event_handler
        async def noted(self, event: Noted, transaction: ViewTransaction) -> None:
            if event.text == "call" and failing[0]:
                failing[0] -= 1
                raise StoreUnavailable(store="elsewhere", reason="it is away")
            handled.append(event.text)

    await append(stores.store, "a", Noted("call"), Noted("after"))
    processor = await stores.start(
        Processor(Calling, source=stores.source, views=stores.views, owner="me", settings=QUICK)
    )
    await stores.caught_up(processor)
    assert handled == ["call", "after"]
    assert await stores.views.count(DeadLetter) == 0


async def test_a_source_that_is_away_is_waited_for(stores: Stores) -> None:
    """When the store cannot be read the processor says so, and goes on when it is back."""
    _, processor, _ = setup(stores)
    follow = stores.store.follow
    away = [True]

    def broken(**options: object) -> object:
        if away[0]:
            raise StoreUnavailable(store="events", reason="it is locked")
        return follow(**options)  # type: ignore[arg-type]  # passed on as they came

    stores.store.follow = broken  # type: ignore[method-assign,assignment]  # the fault
    await append(stores.store, "a", Opened("a", "a"))
    await stores.start(processor)

    async def told() -> bool:
        return "it is locked" in (await processor.status()).failure

    await until(told)
    away[0] = False
    await stores.caught_up(processor)
    assert await balance(stores, "a") == 0
    assert (await processor.status()).failure == ""
