"""What another process does between two steps of a rebuild, a replay, a retry or a processor."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from headwater.errors import InvalidInput
from headwater.processing import DeadLetter, Processor, ProcessorAdmin, Relay, rebuild
from headwater.processing.sources.tokens import Token
from headwater.views import ViewTransaction
from headwater.views.postgres import PostgresViewStore
from tests.integration.processing.conftest import QUICK, Stores, until
from tests.integration.processing.domain import AccountView, Deposited, Ledger, Opened, append
from tests.postgres_server import POSTGRES

POISON = 666
PATIENT = msgspec.structs.replace(QUICK, lease_s=600.0)  # what waits for a lease fails the test
Hook = Callable[[], Awaitable[object]]


class Between:
    """A view store that does something else before (or after) a method is called for once."""

    def __init__(self, views: Any, *, after: bool = False, **hooks: Hook) -> None:
        self._views = views
        self.hooks = hooks
        self._after = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._views, name)
        hook = self.hooks.pop(name, None)
        if hook is None:
            return method

        async def call(*args: Any, **options: Any) -> Any:
            if not self._after:
                await hook()
            result = await method(*args, **options)
            if self._after:
                await hook()
            return result

        @asynccontextmanager
        async def block(**options: Any) -> AsyncIterator[ViewTransaction]:
            await hook()
            async with method(**options) as transaction:
                yield transaction

        return block if name == "transaction" else call


def ledger(poison: bool = False) -> Ledger:
    handlers = Ledger()
    handlers.poison = {POISON} if poison else set()
    return handlers


def processor(stores: Stores, views: Any = None, **options: Any) -> Processor:
    options = {"owner": "one", "settings": QUICK, **options}
    return Processor(
        options.pop("handlers", Ledger),
        source=stores.source,
        views=views or stores.views,
        **options,
    )


def admin(stores: Stores, views: Any = None) -> ProcessorAdmin:
    return ProcessorAdmin(Ledger, source=stores.source, views=views or stores.views, settings=QUICK)


async def rebuilt(stores: Stores, views: Any = None, **options: Any) -> int:
    options = {"owner": "rebuilder", "settings": QUICK, **options}
    return await rebuild(
        options.pop("handlers", Ledger),
        source=stores.source,
        views=views or stores.views,
        **options,
    )


async def balances(stores: Stores) -> dict[str, int]:
    found = (await stores.views.find(AccountView, limit=100)).items
    return {view.id: view.balance for view in found}


async def generations(stores: Stores) -> set[int]:
    return {segment.generation for segment in await stores.views.segments("ledger")}


async def letters(stores: Stores) -> int:
    return await stores.views.count(DeadLetter)


async def three_accounts(stores: Stores) -> dict[str, int]:
    for name in "abc":
        await append(stores.store, name, Opened(name, "x"), Deposited(name, 1))
    return dict.fromkeys("abc", 1)


async def in_service(stores: Stores, **options: Any) -> Processor:
    """Start a processor and let it handle what there is."""
    started = await stores.start(processor(stores, **options))
    await stores.caught_up(started)
    return started


class Held:
    """A store on which a rebuild fills its generation, and then waits before the switch-over."""

    def __init__(self, stores: Stores) -> None:
        self.filled, self.go_on = asyncio.Event(), asyncio.Event()
        self.views = Between(stores.views, reset=self._wait)

    async def _wait(self) -> None:
        self.filled.set()
        await self.go_on.wait()


async def test_a_rebuild_does_not_drop_what_another_one_has_begun(stores: Stores) -> None:
    """Of two that begin at the same moment, the one that comes late shares the other's work."""
    expected = await three_accounts(stores)
    await in_service(stores)
    first, second = ledger(), ledger()
    held = Held(stores)
    running: list[asyncio.Task[int]] = []

    async def begin() -> None:
        running.append(
            asyncio.create_task(rebuilt(stores, held.views, handlers=first, owner="first"))
        )
        await held.filled.wait()

    late = Between(stores.views, next_generation=begin)
    running.append(asyncio.create_task(rebuilt(stores, late, handlers=second, owner="second")))
    await held.filled.wait()
    held.go_on.set()
    assert await asyncio.gather(*running) == [2, 2]
    assert first.calls + second.calls == len(expected)
    assert await balances(stores) == expected


async def test_a_rebuild_that_others_have_done_meanwhile(stores: Stores) -> None:
    """A generation that others have begun and made active since it was looked for will do."""
    expected = await three_accounts(stores)
    await in_service(stores)
    late = Between(stores.views, next_generation=lambda: rebuilt(stores))
    assert await rebuilt(stores, late, owner="second") == 2
    assert await balances(stores) == expected
    assert await generations(stores) == {2}


async def test_a_swap_that_others_have_overtaken_is_none(stores: Stores) -> None:
    """When a later generation is active at the moment of the switch-over, the rebuild just ends."""
    expected = await three_accounts(stores)
    started = await in_service(stores)

    async def overtake() -> None:
        await rebuilt(stores, join=True, owner="helper")
        await rebuilt(stores, owner="other")

    assert await rebuilt(stores, Between(stores.views, activate=overtake)) == 3
    await until(lambda: started.claims.generation == 3)
    assert await balances(stores) == expected
    assert await generations(stores) == {3}


async def test_a_rebuild_replaces_what_is_active_by_then(stores: Stores) -> None:
    """What was active when a rebuild began may be replaced before it has a number."""
    expected = await three_accounts(stores)
    started = await in_service(stores)

    async def overtake() -> None:
        second = await rebuilt(stores)
        code, views = started.applier.code, started.applier.views
        await stores.views.next_generation("ledger", code, views, after=second)

    late = Between(stores.views, next_generation=overtake)
    async with asyncio.timeout(30):
        assert await rebuilt(stores, late, owner="late") == 3
    assert await balances(stores) == expected
    assert await generations(stores) == {3}


async def test_replays_at_once(stores: Stores) -> None:
    """Of two replays from the start, both succeed, and one empty generation fills up."""
    expected = await three_accounts(stores)
    started = await in_service(stores)
    for method in ("open_segments", "ensure", "activate"):
        care = admin(stores, Between(stores.views, **{method: admin(stores).reset}))
        await care.reset()
        active = await stores.views.generation("ledger")
        await until(lambda: started.progress.generation == active)  # noqa: B023  # awaited here
        await stores.caught_up(started)
        assert await balances(stores) == expected
        assert await generations(stores) == {active}


async def test_a_replay_overtakes_a_rebuild(stores: Stores) -> None:
    """A rebuild that is under way ends when a replay has begun a later generation."""
    expected = await three_accounts(stores)
    started = await in_service(stores)
    held = Held(stores)
    rebuilding = asyncio.create_task(rebuilt(stores, held.views))
    await held.filled.wait()
    await admin(stores).reset()
    assert await generations(stores) == {3}
    held.go_on.set()
    assert await rebuilding == 3
    await until(lambda: started.progress.generation == 3)
    await stores.caught_up(started)
    assert await balances(stores) == expected
    assert await generations(stores) == {3}


async def test_a_rebuild_that_drops_a_replay_s_generation(stores: Stores) -> None:
    """A replay from the start whose generation is taken for an abandoned one just begins anew."""
    expected = await three_accounts(stores)
    started = await in_service(stores)

    async def drop() -> None:
        assert await stores.views.drop_generation("ledger", 2, started.applier.views)

    await admin(stores, Between(stores.views, activate=drop)).reset()
    await until(lambda: started.progress.generation == 2)
    await stores.caught_up(started)
    assert await balances(stores) == expected


async def test_a_generation_that_is_being_replaced_is_not_replayed(stores: Stores) -> None:
    """A replay does not set a frozen generation to work again, behind a switch-over's back."""
    await three_accounts(stores)
    await (await in_service(stores)).stop()
    await stores.views.reset("ledger", token=Token(successor=2).text, generation=1)
    with pytest.raises(InvalidInput, match="being switched over"):
        await admin(stores).reset(position=1)
    assert {s.token for s in await stores.views.segments("ledger")} == {Token(successor=2).text}


async def test_a_replay_meets_a_swap(stores: Stores) -> None:
    """A replay from a position that meets a switch-over holds for the new generation."""
    await three_accounts(stores)
    heard = Ledger()
    started = await in_service(stores, handlers=heard)
    switching = Between(stores.views, transaction=lambda: rebuilt(stores))
    await admin(stores, switching).reset(time_us=0)
    heard.calls = 0
    assert await generations(stores) == {2}
    await until(lambda: heard.calls > 0)  # refused there, as it was handled before
    assert started.claims.generation == 2


async def test_a_resize_holds_for_a_rebuild_that_begins_meanwhile(stores: Stores) -> None:
    """All generations that are there after a resize have as many segments as were asked for."""
    await three_accounts(stores)
    started = await in_service(stores)
    held = Held(stores)
    running: list[asyncio.Task[int]] = []

    async def begin() -> None:
        running.append(asyncio.create_task(rebuilt(stores, held.views)))
        await held.filled.wait()

    await admin(stores, Between(stores.views, transaction=begin)).resize(7)
    counts = {(s.generation, s.count) for s in await stores.views.segments("ledger")}
    assert counts == {(1, 7), (2, 7)}
    held.go_on.set()
    assert await running[0] == 2
    await until(lambda: started.claims.generation == 2)


async def test_the_status_tells_of_the_generation_that_takes_over(stores: Stores) -> None:
    """While a generation is frozen, what it lacks is not reported, but what its successor does."""
    await three_accounts(stores)
    await (await in_service(stores)).stop()

    async def look() -> None:
        status = await admin(stores).status()
        assert (status.generation, status.lag, len(status.segments)) == (1, 0, 4)

    assert await rebuilt(stores, Between(stores.views, activate=look)) == 2


async def test_a_rebuild_forgets_the_letters_of_a_former_attempt(stores: Stores) -> None:
    """What failed in a rebuild that was given up is handled by the next one, not still parked."""
    await append(stores.store, "a", Opened("a", "x"), Deposited("a", POISON), Deposited("a", 1))
    await in_service(stores)
    attempt = asyncio.create_task(rebuilt(stores, Held(stores).views, handlers=ledger(poison=True)))

    async def parked() -> bool:
        return await letters(stores) == 2

    await until(parked)
    attempt.cancel()
    await asyncio.gather(attempt, return_exceptions=True)
    assert await rebuilt(stores) == 2
    assert await balances(stores) == {"a": POISON + 1}
    assert await letters(stores) == 0


async def test_a_crash_at_the_swap_leaves_no_letters(stores: Stores) -> None:
    """Whoever ends right after a switch-over has removed the former letters before."""
    await append(stores.store, "a", Opened("a", "x"), Deposited("a", POISON))
    started = await in_service(stores, handlers=ledger(poison=True))
    assert await letters(stores) == 1
    await started.stop()

    async def crash() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await rebuilt(stores, Between(stores.views, after=True, activate=crash))
    assert await stores.views.generation("ledger") == 2
    assert await letters(stores) == 0


async def test_nobody_begins_on_a_generation_that_is_about_to_go(stores: Stores) -> None:
    """A processor that is new while a rebuild switches over works on the new generation."""
    expected = await three_accounts(stores)
    await (await in_service(stores)).stop()
    begun: list[Processor] = []

    async def begin() -> None:
        begun.append(await stores.start(processor(stores)))

    assert await rebuilt(stores, Between(stores.views, activate=begin)) == 2
    assert begun[0].claims.generation == 2
    await stores.caught_up(begun[0])
    assert await balances(stores) == expected


async def test_a_generation_is_frozen_between_look_and_claim(stores: Stores) -> None:
    """Who claims segments that were frozen meanwhile leaves them alone, and switches over."""
    expected = await three_accounts(stores)
    await (await in_service(stores)).stop()
    frozen = Token(successor=2).text

    async def freeze() -> None:
        await stores.views.reset("ledger", token=frozen, generation=1)

    handlers = Ledger()
    views = Between(stores.views, claim=freeze)
    started = await stores.start(processor(stores, views, handlers=handlers))
    tokens = {s.token for s in await stores.views.segments("ledger") if s.generation == 1}
    assert tokens <= {frozen}
    await until(lambda: started.progress.generation == 2)
    await stores.caught_up(started)
    assert handlers.calls == len(expected)
    assert await balances(stores) == expected


async def test_a_swap_between_two_reads_is_seen_at_once(stores: Stores) -> None:
    """A processor that looks while others switch over works on the new generation, not on none."""
    await three_accounts(stores)
    await (await in_service(stores)).stop()
    for method in ("segments", "generations"):
        active = await stores.views.generation("ledger")
        views = Between(stores.views, **{method: lambda: rebuilt(stores)})
        started = await stores.start(processor(stores, views))
        assert started.claims.generation == active + 1
        assert len(started.claims.held) == started.claims.count > 0
        await started.stop()


@pytest.mark.parametrize("stores", [POSTGRES], indirect=True)
@pytest.mark.parametrize("how", ["retry", "drop"])
async def test_nothing_is_parked_behind_a_letter_that_goes(stores: Stores, how: str) -> None:
    """A sequence whose letters are removed just as one more event comes goes on without letters."""
    await append(stores.store, "a", Opened("a", "x"), Deposited("a", POISON))
    other: Any = await stores.another()
    removing: list[asyncio.Task[Any]] = []
    armed: list[bool] = []

    class Finding:
        """A transaction that has looked for letters when somebody removes them."""

        def __init__(self, transaction: Any) -> None:
            self._transaction = transaction

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transaction, name)

        async def find(self, *args: Any, **options: Any) -> Any:
            found = await self._transaction.find(*args, **options)
            if armed and found.items and not removing:
                removing.append(asyncio.create_task(getattr(admin(stores, other), how)("a")))
                await until(lambda: removing[0].done() or waits(other))
            return found

    class Watched(Between):
        @asynccontextmanager
        async def transaction(self, **options: Any) -> AsyncIterator[Any]:
            async with self._views.transaction(**options) as transaction:
                yield Finding(transaction)

    started = await stores.start(
        processor(stores, Watched(stores.views), handlers=ledger(poison=True))
    )
    await stores.caught_up(started)
    assert await letters(stores) == 1
    armed.append(True)
    await append(stores.store, "a", Deposited("a", 1))
    await stores.caught_up(started)
    await removing[0]
    assert await letters(stores) == 0
    await append(stores.store, "a", Deposited("a", 2))
    await stores.caught_up(started)
    assert await letters(stores) == 0
    assert await balances(stores) == {"a": POISON + 3 if how == "retry" else 2}


async def waits(store: PostgresViewStore) -> bool:
    """Whether a transaction waits for another one."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    return bool(await store._database.read(lambda c: c.fetchval(waiting)))


@pytest.mark.parametrize("stores", [POSTGRES], indirect=True)
async def test_what_a_failover_lost_is_handled_again_at_once(stores: Stores) -> None:
    """A processor whose last commits are gone claims its segments anew; no lease is waited for."""
    views: Any = stores.views
    started = await stores.start(processor(stores, settings=PATIENT))
    await append(stores.store, "a", Opened("a", "x"))
    await stores.caught_up(started)
    database = views._database

    async def run(sql: str) -> None:
        async with database.transaction() as connection:
            await connection.execute(sql)

    for table in ("view_segments", '"view_AccountView_1"', '"view_MonthView_1"'):
        await run(f"CREATE TABLE was_{table.strip(chr(34))} AS TABLE {table}")
    await append(stores.store, "a", Deposited("a", 1))
    await stores.caught_up(started)
    # The server that took over is where this one was when the tables were copied.
    for table in ("view_segments", '"view_AccountView_1"', '"view_MonthView_1"'):
        await run(f"DELETE FROM {table}")
        await run(f"INSERT INTO {table} TABLE was_{table.strip(chr(34))}")
        await run(f"DROP TABLE was_{table.strip(chr(34))}")
    await append(stores.store, "a", Deposited("a", 2))

    async def handled() -> bool:
        return await balances(stores) == {"a": 3}

    await until(handled)


async def test_a_relay_keeps_the_claim_that_it_has_taken_anew(stores: Stores) -> None:
    """When a checkpoint under a former claim fails, the present claim is not given up."""
    taken: list[int] = []
    relay: Relay

    async def published(position: int) -> bool:
        return (await relay.status()).position >= position

    async def take_anew() -> None:
        fence = relay.claims.held[0].fence
        (segment,) = await stores.views.segments(relay.name)
        await stores.views.reset(relay.name, token=segment.token, generation=1)
        await until(lambda: relay.claims.held and relay.claims.held[0].fence > fence)
        taken.append(relay.claims.held[0].fence)

    relay = Relay(
        stores.store,
        stores.bus,
        name="ledger",
        epoch=stores.store.epoch,
        views=Between(stores.views, transaction=take_anew),  # type: ignore[arg-type]  # a store
        owner="one",
        settings=PATIENT,
    )
    await relay.start()
    for number in range(3):
        position = await append(stores.store, f"s{number}", Opened(f"s{number}", "x"))
        await until(lambda: published(position))  # noqa: B023  # awaited here
        await until(lambda: taken)
    assert relay.claims.held[0].fence == taken[0]
    await relay.stop()
