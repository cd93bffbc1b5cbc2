"""Programs of several versions on one view store: each has the views that its own code makes."""

import asyncio
from typing import Annotated, Any

import msgspec
import pytest

from headwater.errors import ConfigurationError
from headwater.modelling import EventHandlers, Projection, event_handler
from headwater.processing import DeadLetter, Processor, ProcessorAdmin, ProcessorSettings, rebuild
from headwater.processing.generations.own_views import OwnViews
from headwater.processing.running.projector import applier_of
from headwater.views import Index, Key, View
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import Deposited, Opened, append

UNUSED_S = 100.0


def brief(stores: Stores) -> ProcessorSettings:
    return msgspec.structs.replace(QUICK, unused_s=UNUSED_S)


async def unused(stores: Stores, running: Processor) -> None:
    """Let time pass, while a processor runs, until all that others have used is gone."""
    for _ in range(20):
        stores.clock.skip(UNUSED_S * 0.3)
        now = stores.clock()
        await until(lambda: running._lineage._used_at >= now)  # noqa: B023  # awaited here
        if await codes(stores) == {running.applier.code}:
            return
    pytest.fail("others are still there")


class OldAccount(View):
    view_name = "Account"
    id: Annotated[str, Key]
    balance: int = 0


class OldAccounts(Projection):
    name = "accounts"

    @event_handler(OldAccount, key="account_id")
    def opened(self, event: Opened) -> OldAccount:
        return OldAccount(event.account_id)

    @event_handler(OldAccount, key="account_id")
    def deposited(self, view: OldAccount, event: Deposited) -> None:
        view.balance += event.amount


class NewAccount(View):
    view_name = "Account"
    id: Annotated[str, Key]
    balance: int = 0
    holder: Annotated[str, Index] = ""
    deposits: int = 0


class NewAccounts(Projection):
    name = "accounts"

    @event_handler(NewAccount, key="account_id")
    def opened(self, event: Opened) -> NewAccount:
        return NewAccount(event.account_id, holder=event.holder)

    @event_handler(NewAccount, key="account_id")
    def deposited(self, view: NewAccount, event: Deposited) -> None:
        view.balance += event.amount
        view.deposits += 1


class Old:
    """The program before: accounts with a balance."""

    Account, Accounts = OldAccount, OldAccounts


class New:
    """The program after: with the holder, who is indexed, and the count of deposits."""

    Account, Accounts = NewAccount, NewAccounts


async def started(stores: Stores, program: Any, owner: str) -> tuple[Any, Processor]:
    """Start an instance of a program as a process of its own; return its projection, too."""
    projection = program.Accounts()
    processor = Processor(
        projection,
        source=stores.source,
        views=await stores.another(),
        owner=owner,
        settings=brief(stores),
    )
    await stores.start(processor)
    async with asyncio.timeout(30):
        await processor.filled()
    return projection, processor


async def filled(stores: Stores) -> None:
    for name in "abc":
        await append(stores.store, name, Opened(name, "Ada"), Deposited(name, 1))


async def check(stores: Stores, program: Any, projection: Any, processor: Processor) -> None:
    """Check that an instance shows all there is, as its own code makes it."""
    await stores.caught_up(processor)
    found = {view.id: view for view in (await projection.views.find(program.Account)).items}
    expected = {view.id: view for view in await folded(stores, program)}
    assert found == expected
    assert await projection.views.get(program.Account, "a") == expected["a"]
    assert await projection.views.count(program.Account) == len(expected)
    assert await projection.views.get_many(program.Account, ["b", "x"]) == {"b": expected["b"]}
    if program is New:
        assert await projection.views.count(program.Account, where={"holder": "Ada"}) == 3


async def folded(stores: Stores, program: Any) -> list[Any]:
    views: dict[str, Any] = {}
    async for page in stores.store.read():
        for event in page.events:
            content = msgspec.json.decode(event.data)
            if event.type == "Opened":
                views[event.stream] = program.Account(event.stream)
                if program is New:
                    views[event.stream].holder = content["holder"]
            else:
                views[event.stream].balance += content["amount"]
                if program is New:
                    views[event.stream].deposits += 1
    return list(views.values())


async def codes(stores: Stores) -> set[str]:
    return {g.code for g in await stores.views.generations("accounts")}


async def both(stores: Stores, first: Any, second: Any) -> list[tuple[Any, Any, Processor]]:
    await filled(stores)
    return [
        (program, *await started(stores, program, f"{program.__name__}-{number}"))
        for number, program in enumerate((first, second))
    ]


@pytest.mark.parametrize(("first", "second"), [(Old, New), (New, Old)])
async def test_two_versions_beside_one_another(stores: Stores, first: Any, second: Any) -> None:
    """Old and new instances each show all, in their own form, while both run; in any order."""
    instances = await both(stores, first, second)
    for amount in range(3):
        await append(stores.store, "a", Deposited("a", amount))
        for instance in instances:
            await check(stores, *instance)
    assert len(await codes(stores)) == 2


async def test_two_versions_at_the_same_time(stores: Stores) -> None:
    """Instances of both versions that start at once settle on a generation for each."""
    await filled(stores)
    programs = (Old, New, Old, New)
    made = await asyncio.gather(
        *(started(stores, program, f"p{n}") for n, program in enumerate(programs))
    )
    for program, instance in zip(programs, made, strict=True):
        await check(stores, program, *instance)
    assert len(await stores.views.generations("accounts")) == 2


async def test_roll_back(stores: Stores) -> None:
    """Who goes back to the old code soon finds its views, fed or not meanwhile."""
    (_, _, old), (_, _, new) = await both(stores, Old, New)
    before = old.claims.generation
    await old.stop()
    await append(stores.store, "b", Deposited("b", 7))
    await stores.caught_up(new)
    await new.stop()
    again = await started(stores, Old, "again")
    assert again[1].claims.generation == before
    await check(stores, Old, *again)


async def test_what_nobody_uses_is_dropped(stores: Stores) -> None:
    """After a while the views of the code that nobody runs are gone, whichever it is."""
    (_, _, old), (_, _, new) = await both(stores, Old, New)
    await old.stop()
    await unused(stores, new)
    await _check_alone(stores, new)
    old = (await started(stores, Old, "old again"))[1]
    assert old.claims.generation > new.claims.generation
    assert len(await codes(stores)) == 2
    await new.stop()
    await unused(stores, old)
    await _check_alone(stores, old)


async def _check_alone(stores: Stores, stays: Processor) -> None:
    generation = stays.claims.generation
    assert {s.generation for s in await stores.views.segments("accounts")} == {generation}


async def test_who_was_away_for_long_fills_its_views_anew(stores: Stores) -> None:
    """An instance whose generation was dropped says that it fills, and shows all again."""
    (_, projection, old), (_, _, new) = await both(stores, Old, New)
    goes_on, look = asyncio.Event(), old._look

    async def paused() -> None:
        await goes_on.wait()
        await look()

    old._look = paused  # type: ignore[method-assign]  # as if the process stood still
    await unused(stores, new)
    goes_on.set()
    await until(lambda: old.is_filled and old.claims.generation > new.claims.generation)
    await append(stores.store, "c", Deposited("c", 3))
    await check(stores, Old, projection, old)


async def test_a_rebuild_leaves_other_versions_alone(stores: Stores) -> None:
    """A rebuild of one code, while both are in use, replaces the views of that code only."""
    instances = await both(stores, Old, New)
    options = {"source": stores.source, "views": stores.views, "settings": brief(stores)}
    numbers = {await rebuild(program.Accounts, owner="r", **options) for program in (Old, New)}
    assert numbers == {3, 4}
    await append(stores.store, "a", Deposited("a", 5))
    await until(lambda: {one[2].claims.generation for one in instances} == {3, 4})
    for instance in instances:
        await check(stores, *instance)
    assert {g.number for g in await stores.views.generations("accounts")} == {3, 4}


async def test_a_new_version_is_filled_from_outside_first(stores: Stores) -> None:
    """A rebuild with the new code, before any instance has it, changes nothing for the old."""
    await filled(stores)
    old = await started(stores, Old, "old")
    options = {"source": stores.source, "views": stores.views, "settings": brief(stores)}
    assert await rebuild(New.Accounts, owner="r", **options) == 2
    await check(stores, Old, *old)
    new = await started(stores, New, "new")
    assert new[1].claims.generation == 2
    await check(stores, New, *new)


async def test_who_only_reads(stores: Stores) -> None:
    """A reader finds the generation of its own code, be it the newest or not, or replaced."""
    _, (_, _, new) = await both(stores, Old, New)
    options = {"source": stores.source, "views": stores.views, "settings": brief(stores)}
    readers = {program: OwnViews(stores.views) for program in (Old, New)}
    for program, own in readers.items():
        own.add(applier_of(program.Accounts, source=stores.source, views=stores.views))
    await stores.caught_up(new)
    for number in (1, 3):
        for program, own in readers.items():
            assert len((await own.find(program.Account)).items) == 3
        assert {r._known["Account"] for r in readers.values()} == {number, number + 1}
        for program in readers:
            await rebuild(program.Accounts, owner="r", **options)
    assert await readers[New].count(New.Account, where={"holder": "Ada"}) == 3


async def test_letters_belong_to_a_version(stores: Stores) -> None:
    """What the new code parks holds up the new views only, and goes when they are dropped."""

    class Poisoned:
        Account = New.Account

        class Accounts(New.Accounts):
            name = "accounts"

            @event_handler(New.Account, key="account_id")
            def opened(self, event: Opened) -> New.Account:
                raise ZeroDivisionError

    await filled(stores)
    old = await started(stores, Old, "old")
    broken = (await started(stores, Poisoned, "broken"))[1]
    await stores.caught_up(broken)
    assert await stores.views.count(DeadLetter) > 0
    await check(stores, Old, *old)
    await broken.stop()
    await unused(stores, old[1])

    async def gone() -> bool:
        return await stores.views.count(DeadLetter) == 0

    await until(gone)
    await check(stores, Old, *old)


async def test_what_an_earlier_release_has_left(stores: Stores) -> None:
    """Views without a code become those of the code that comes first, if they have its form."""
    await filled(stores)
    applier = applier_of(Old.Accounts, source=stores.source, views=stores.views)
    applier.code = ""
    options = {"source": stores.source, "views": stores.views, "settings": brief(stores)}
    former = await stores.start(Processor(applier, owner="former", **options))
    await stores.caught_up(former)
    await former.stop()
    new = await started(stores, New, "new")  # another form: its own
    assert new[1].claims.generation == 2
    old = await started(stores, Old, "old")
    assert old[1].claims.generation == 1
    await check(stores, New, *new)
    await check(stores, Old, *old)


async def test_a_view_that_moves_to_another_projection(stores: Stores) -> None:
    """A view may move to a projection of another name: it is filled in a place of its own."""

    class Moved:
        Account = Old.Account

        class Accounts(Old.Accounts):
            name = "books"

    await filled(stores)
    old = await started(stores, Old, "old")
    moved = await started(stores, Moved, "moved")
    await append(stores.store, "a", Deposited("a", 5))
    await check(stores, Old, *old)
    await check(stores, Moved, *moved)
    await old[1].stop()
    stores.clock.skip(UNUSED_S + 1)
    assert await stores.views.drop_unused("accounts", code="", idle_s=UNUSED_S) == [1]
    await append(stores.store, "a", Deposited("a", 5))
    await check(stores, Moved, *moved)


async def test_handlers_with_effects_are_not_begun_anew(stores: Stores) -> None:
    """Handlers that act outside have no generations by code: another version goes on."""
    heard: list[str] = []

    def mailer(word: str) -> type[EventHandlers]:
        class Mailer(EventHandlers):
            name = "mailer"
            start = "beginning"

            @event_handler
            async def opened(self, event: Opened) -> None:
                heard.append(f"{word} {event.account_id}")

        return Mailer

    options = {"source": stores.source, "views": stores.views, "settings": brief(stores)}
    await append(stores.store, "a", Opened("a", "x"))
    first = await stores.start(Processor(mailer("first"), owner="one", **options))
    await stores.caught_up(first)
    await first.stop()
    await append(stores.store, "b", Opened("b", "x"))
    second = await stores.start(Processor(mailer("second"), owner="two", **options))
    await stores.caught_up(second)
    assert second.is_filled
    assert heard == ["first a", "second b"]


async def test_an_index_of_handlers_with_effects(stores: Stores) -> None:
    """Views beside effects elsewhere keep their form: another one is refused with the remedy."""

    def kept(view: type[View]) -> type[Projection]:
        class Kept(Projection):
            name = "kept"
            view_types = (view,)

            @event_handler
            async def opened(self, event: Opened) -> None: ...

        return Kept

    options = {"source": stores.source, "views": stores.views, "settings": brief(stores)}
    await (await stores.start(Processor(kept(Old.Account), owner="one", **options))).stop()
    with pytest.raises(ConfigurationError, match="rebuild the projection"):
        await Processor(kept(New.Account), owner="two", **options).start()
    care = ProcessorAdmin(kept(New.Account), source=stores.source, views=stores.views)
    assert (await care.status()).generation == 1
