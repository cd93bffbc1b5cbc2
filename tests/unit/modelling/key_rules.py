"""Rules of idempotency keys while the first send is under way, for every event store."""

import asyncio
import random
from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar

import pytest

from headwater.dispatch import CommandMessage, CommandNext, CommandResult
from headwater.dispatch.local import LocalCommandBus
from headwater.errors import (
    AggregateExists,
    ConcurrencyConflict,
    HeadwaterError,
    IdempotencyKeyReused,
    Rejection,
)
from headwater.eventstore import EventStore
from headwater.messages import Command, Event, Metadata
from headwater.modelling import (
    Aggregate,
    Repository,
    command_handler,
    event_sourcing_handler,
)
from tests.unit.modelling.ledger import (
    Account,
    ChangeEmail,
    Deposit,
    Ensure,
    Insufficient,
    Open,
    ReserveEmail,
    Withdraw,
)
from tests.unit.modelling.repository_rules import bus_on, types_of


class Close(Command):
    door_id: str


class Closed(Event):
    door_id: str


class IsClosed(Rejection):
    pass


class Door(Aggregate):
    """Opened by being mentioned, closed once; whoever is late meets a fault of the program."""

    stream_name: ClassVar[str] = "Door"
    closed: int = 0

    @command_handler(creates="if_missing")
    def close(self, command: Close) -> Closed:
        return [Closed(command.door_id)][self.closed]

    @event_sourcing_handler
    def on_closed(self, event: Closed) -> None:
        self.closed += 1


def doors_on(store: EventStore) -> LocalCommandBus:
    return LocalCommandBus([Repository(Door, store, source="doors").handlers()])


async def outcomes_of(*sends: Awaitable[CommandResult]) -> list[CommandResult | BaseException]:
    return await asyncio.gather(*sends, return_exceptions=True)


def check_one_outcome(outcomes: Sequence[CommandResult | BaseException]) -> CommandResult:
    """Check that all are one outcome, of which one alone is not marked; return it."""
    results = [each for each in outcomes if isinstance(each, CommandResult)]
    assert results == list(outcomes)
    assert len({(each.id, each.version, each.token) for each in results}) == 1
    assert sorted(each.duplicate for each in results) == [False] + (len(results) - 1) * [True]
    return results[0]


CASES = {
    "a withdrawal of all there is": lambda to: (Withdraw(to, 100), None),
    "an update at a version": lambda to: (Deposit(to, 5), 2),
    "a creation": lambda to: (Open(f"new-{to}", f"bob-{to}@x.example"), None),
    "a creation if missing": lambda to: (Ensure(f"newer-{to}"), None),
    "an update guarded by a model": lambda to: (ChangeEmail(to, f"new-{to}@x.example"), None),
    "a decision of a model": lambda to: (ReserveEmail(f"free-{to}@x.example", "note"), None),
    "nothing": lambda to: (Deposit(to, 5, times=0), None),
    "nothing of a model": lambda to: (ReserveEmail(f"free-{to}@x.example", "nothing"), None),
}


KEPT: dict[str, tuple[Command, Command]] = {  # what is refused, and what lets it be carried out
    "aggregate": (Withdraw("7", 150), Deposit("7", 50)),
    "absent": (Deposit("9", 1), Open("9")),
    "model": (ReserveEmail("eve-7@x.example", "note"), ChangeEmail("7", "free@x.example")),
}


async def prepare(bus: LocalCommandBus, id: str = "7") -> None:
    """Open an account with a balance of 100."""
    await bus.send(Open(id, f"eve-{id}@x.example"))
    await bus.send(Deposit(id, 100))


def send(bus: LocalCommandBus, case: str, id: str = "7") -> Awaitable[CommandResult]:
    command, version = CASES[case](id)
    return bus.send(command, idempotency_key=f"k-{id}", expected_version=version)


class KeyRules:
    """One key, one outcome, also while the first is under way."""

    @pytest.fixture
    async def bus(self, store: EventStore) -> LocalCommandBus:
        """A bus, and account 7 with a balance of 100."""
        bus = bus_on(store)
        await prepare(bus)
        return bus

    @pytest.mark.parametrize("case", CASES)
    async def test_at_once(self, store: EventStore, bus: LocalCommandBus, case: str) -> None:
        """Whoever sends a command again while it is under way gets its outcome, marked."""
        before = await store.head()
        first = check_one_outcome(await outcomes_of(*(send(bus, case) for _ in range(5))))
        after = await store.head()
        assert after - before == (0 if case.startswith("nothing") else 1)
        again = await send(bus_on(store), case)
        assert (again.version, again.token, again.duplicate) == (first.version, first.token, True)
        assert await store.head() == after

    @pytest.mark.parametrize("case", CASES)
    async def test_at_once_through_two_buses(
        self, store: EventStore, bus: LocalCommandBus, case: str
    ) -> None:
        """That holds between repositories that know nothing of each other, as processes do."""
        buses = [bus, bus_on(store), bus_on(store)]
        check_one_outcome(await outcomes_of(*(send(buses[n % 3], case) for n in range(9))))

    @pytest.mark.parametrize("turns", range(12))
    async def test_at_any_moment(self, store: EventStore, bus: LocalCommandBus, turns: int) -> None:
        """That holds however far the first has come, here or elsewhere."""
        buses = [bus, bus_on(store)]
        for number, case in enumerate(CASES):
            for which, again in enumerate(buses):
                id = f"{number}-{which}"
                await prepare(bus, id)
                first = asyncio.ensure_future(send(bus, case, id))
                for _ in range(turns):
                    await asyncio.sleep(0)
                check_one_outcome(await outcomes_of(first, send(again, case, id)))

    async def test_a_fault_on_what_the_first_left(self, store: EventStore) -> None:
        """A handler that fails in the state that the first left fails for nobody."""
        for number in range(3):
            buses = [doors_on(store), doors_on(store)]
            close = Close(f"{number}")
            outcomes = await outcomes_of(
                *(buses[n % 2].send(close, idempotency_key=f"k{number}") for n in range(6))
            )
            check_one_outcome(outcomes)
            again = await doors_on(store).send(close, idempotency_key=f"k{number}")
            assert again.duplicate
            with pytest.raises(IndexError):
                await doors_on(store).send(close, idempotency_key="another")

    async def test_refused_each_for_itself(self, store: EventStore, bus: LocalCommandBus) -> None:
        """A refusal is not kept: each send is decided, in order, until one is carried out."""
        case = Withdraw("7", 150)
        sends = [asyncio.ensure_future(bus.send(case, idempotency_key="k")) for _ in range(3)]
        outcomes = await outcomes_of(*sends)
        assert [type(each) for each in outcomes] == 3 * [Insufficient]
        sends = [asyncio.ensure_future(bus.send(case, idempotency_key="k")) for _ in range(2)]
        await bus.send(Deposit("7", 50))
        sends += [asyncio.ensure_future(bus.send(case, idempotency_key="k")) for _ in range(2)]
        outcomes = await outcomes_of(*sends)
        refused = [each for each in outcomes if isinstance(each, Insufficient)]
        assert outcomes[: len(refused)] == refused, "a refusal after it was carried out"
        check_one_outcome(outcomes[len(refused) :])

    @pytest.mark.parametrize("which", ["aggregate", "absent", "model"])
    async def test_a_kept_refusal(
        self, store: EventStore, bus: LocalCommandBus, which: str
    ) -> None:
        """Who acts on a refusal has it kept: no send under its key is carried out any more."""
        command, change = KEPT[which]
        with pytest.raises(HeadwaterError) as first:
            await bus.send(command, idempotency_key="k", keep_refusal=True)
        await bus.send(change)
        await bus.send(command, idempotency_key="another")
        head = await store.head()
        for again in (bus, bus_on(store)):
            for keep in (False, True):
                with pytest.raises(type(first.value)) as then:
                    await again.send(command, idempotency_key="k", keep_refusal=keep)
                assert then.value.to_problem() == first.value.to_problem()
            with pytest.raises(IdempotencyKeyReused):
                await again.send(Deposit("7", 77), idempotency_key="k")
        assert await store.head() == head

    async def test_the_class_of_a_kept_refusal(
        self, store: EventStore, bus: LocalCommandBus
    ) -> None:
        """Of two classes with one code and the same fields it is the one that was raised."""
        type("Insufficient", (Rejection,), {"__annotations__": {"balance": int, "amount": int}})
        for each in (bus, bus_on(store)):
            with pytest.raises(Insufficient):
                await each.send(Withdraw("7", 150), idempotency_key="k", keep_refusal=True)
            await bus.send(Deposit("7", 50))

    async def test_an_outcome_before_a_refusal(
        self, store: EventStore, bus: LocalCommandBus
    ) -> None:
        """What was carried out elsewhere is the outcome, also for who would keep a refusal."""
        elsewhere = bus_on(store)
        first = await elsewhere.send(Withdraw("7", 100), idempotency_key="k")
        again = await bus.send(Withdraw("7", 100), idempotency_key="k", keep_refusal=True)
        assert (again.version, again.duplicate) == (first.version, True)

    async def test_a_refusal_that_says_much(self, store: EventStore, bus: LocalCommandBus) -> None:
        """Of a large refusal is kept that it was one, and what it says."""
        much = Withdraw("7", 10**4000)
        for each in (bus, bus_on(store)):
            with pytest.raises(Rejection, match="100 are there, 1000"):
                await each.send(much, idempotency_key="k", keep_refusal=True)

    @pytest.mark.parametrize("turns", range(12))
    async def test_refused_for_all_or_for_none(
        self, store: EventStore, bus: LocalCommandBus, turns: int
    ) -> None:
        """However two processes meet while the state changes: they are told the same."""
        buses = [bus, bus_on(store), bus_on(store)]
        case = Withdraw("7", 150)
        sends = []
        for number in range(6):
            sent = buses[number % 2].send(case, idempotency_key="k", keep_refusal=True)
            sends.append(asyncio.ensure_future(sent))
            if number == 2:
                sends.append(asyncio.ensure_future(buses[2].send(Deposit("7", 50))))
            for _ in range(turns):
                await asyncio.sleep(0)
        outcomes = await outcomes_of(*sends)
        del outcomes[3]
        if isinstance(outcomes[0], Insufficient):
            problems = [each.to_problem() for each in outcomes if isinstance(each, Insufficient)]
            assert problems == 6 * [outcomes[0].to_problem()]
        else:
            check_one_outcome(outcomes)
        assert (await types_of(store)).count("Withdrawn") <= 1

    async def test_another_content_at_once(self, store: EventStore, bus: LocalCommandBus) -> None:
        """Of two commands under one key at once, one is carried out and one is refused."""
        for _ in range(5):
            outcomes = await outcomes_of(
                bus.send(Deposit("7", 1), idempotency_key="k"),
                bus.send(Withdraw("7", 1), idempotency_key="k"),
            )
            assert [type(each) for each in outcomes] == [CommandResult, IdempotencyKeyReused]

    @pytest.mark.parametrize("turns", range(10))
    async def test_after_a_cancellation(
        self, store: EventStore, bus: LocalCommandBus, turns: int
    ) -> None:
        """Who sends again what was cancelled on its way gets its outcome, whatever it was."""
        first = asyncio.ensure_future(send(bus, "a withdrawal of all there is"))
        waiting = asyncio.ensure_future(send(bus, "a withdrawal of all there is"))
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        outcomes = await outcomes_of(waiting, send(bus, "a withdrawal of all there is"))
        assert all(isinstance(each, CommandResult) for each in outcomes), outcomes
        assert (await types_of(store)).count("Withdrawn") == 1
        await outcomes_of(first)

    async def test_after_cancellations_behind_others(
        self, store: EventStore, bus: LocalCommandBus
    ) -> None:
        """A cancelled command that is still waiting to be stored is found out, not refused."""
        for number in range(10):
            behind = [asyncio.ensure_future(bus.send(Deposit("7", 1))) for _ in range(number)]
            command = Withdraw("7", 100 + number)
            first = asyncio.ensure_future(bus.send(command, idempotency_key=f"k{number}"))
            for _ in range(3):
                await asyncio.sleep(0)
            first.cancel()
            again = await bus.send(command, idempotency_key=f"k{number}")
            await outcomes_of(first, *behind)
            assert await store.version("Account/7") >= again.version
            await bus.send(Deposit("7", 100))
        assert (await types_of(store)).count("Withdrawn") == 10

    async def test_a_cancelled_send_that_waited(
        self, store: EventStore, bus: LocalCommandBus
    ) -> None:
        """Who stops waiting for the first changes nothing for those who go on waiting."""
        sends = [asyncio.ensure_future(send(bus, "an update at a version")) for _ in range(6)]
        await asyncio.sleep(0)
        for each in sends[1::2]:
            each.cancel()
        outcomes = await outcomes_of(*sends)
        check_one_outcome([each for each in outcomes if isinstance(each, CommandResult)])
        assert await store.version("Account/7") == 3


class NeighbourRules:
    """Nobody's command fails because of somebody else's."""

    @pytest.fixture
    async def bus(self, store: EventStore) -> LocalCommandBus:
        """A bus with account 7 at a balance of 0."""
        bus = bus_on(store, attempts=3)
        await bus.send(Open("7"))
        return bus

    @pytest.mark.parametrize("seed", range(4))
    async def test_repetitions_beside_plain_ones(
        self, store: EventStore, bus: LocalCommandBus, seed: int
    ) -> None:
        """Plain commands beside repetitions of stored ones are all carried out, once."""
        chance = random.Random(seed)
        keyed = [(Deposit("7", 1), f"k{n}") for n in range(30)]
        first = [await bus.send(command, idempotency_key=key) for command, key in keyed]
        sends = [bus.send(Deposit("7", 1)) for _ in range(30)]
        sends += [bus.send(command, idempotency_key=key) for command, key in keyed]
        sends += [bus.send(*keyed[0][:1], idempotency_key="k0") for _ in range(30)]
        order = list(range(90))
        chance.shuffle(order)
        outcomes = dict(zip(order, await outcomes_of(*(sends[n] for n in order)), strict=True))
        plain = [outcomes[n] for n in range(30)]
        assert {type(each) for each in outcomes.values()} == {CommandResult}, outcomes
        versions = [each.version for each in plain if isinstance(each, CommandResult)]
        assert sorted(versions) == list(range(32, 62))
        for n in range(30):
            for again in (outcomes[30 + n], *([outcomes[60]] if n == 0 else [])):
                assert isinstance(again, CommandResult)
                assert (again.version, again.duplicate) == (first[n].version, True)
        assert await store.version("Account/7") == 61

    @pytest.mark.parametrize("seed", range(4))
    async def test_beside_all_sorts(
        self, store: EventStore, bus: LocalCommandBus, seed: int
    ) -> None:
        """That holds beside creations, stale versions, refusals and models that were overtaken."""
        chance = random.Random(seed)
        await bus.send(Open("1", "taken@x.example"))
        await bus.send(Deposit("7", 1), idempotency_key="k")
        others: list[tuple[Command, dict[str, Any]]] = [
            (Deposit("7", 1), {"idempotency_key": "k"}),
            (Deposit("7", 2), {"idempotency_key": "k"}),
            (Deposit("7", 1), {"expected_version": 1}),
            (Open("7"), {}),
            (Open("7"), {"idempotency_key": "creating"}),
            (Withdraw("7", 10_000), {}),
            (ChangeEmail("7", "taken@x.example"), {}),
            (ChangeEmail("7", f"{seed}@x.example"), {}),
            (Deposit("7", "\ud800"), {}),  # type: ignore[arg-type]  # cannot be stored
            (Ensure("7"), {}),
        ]
        elsewhere = bus_on(store)
        plain, sends = [], []
        for _ in range(30):
            command, options = chance.choice(others)
            sends.append(asyncio.ensure_future(bus.send(command, **options)))
            plain.append(asyncio.ensure_future(bus.send(Deposit("7", 1))))
            if chance.random() < 0.1:
                sends.append(asyncio.ensure_future(elsewhere.send(Open("7"))))
            for _ in range(chance.choice((0, 0, 1, 4))):
                await asyncio.sleep(0)
        outcomes = await outcomes_of(*plain)
        assert {type(each) for each in outcomes} == {CommandResult}, outcomes
        for refusal in await outcomes_of(*sends):
            if isinstance(refusal, HeadwaterError):
                assert refusal.code != "pipeline-broken"
                reused = isinstance(refusal, IdempotencyKeyReused)
                assert ("'k'" in str(refusal)) == reused
        versions = [each.version for each in outcomes if isinstance(each, CommandResult)]
        assert len(set(versions)) == 30


class InterceptorRules:
    """The key is looked up before anything that may answer otherwise."""

    async def test_a_repetition_meets_no_interceptor(self, store: EventStore) -> None:
        """What was carried out once is answered before any interceptor runs, also elsewhere."""
        asked: list[str] = []

        async def customers_exist(message: CommandMessage, proceed: CommandNext) -> CommandResult:
            asked.append(message.idempotency_key)
            if len(asked) > 1:
                raise Insufficient(balance=0, amount=0)
            return await proceed(message)

        def bus() -> LocalCommandBus:
            handlers = Repository(Account, store, source="accounts").handlers()
            return LocalCommandBus([handlers], interceptors=[customers_exist])

        one = bus()
        first = await one.send(Open("7"), idempotency_key="k")
        for again in (one, bus()):
            result = await again.send(Open("7"), idempotency_key="k")
            assert (result.version, result.token, result.duplicate) == (1, first.token, True)
            with pytest.raises(IdempotencyKeyReused):
                await again.send(Open("8"), idempotency_key="k")
        assert asked == ["k"]
        with pytest.raises(Insufficient):
            await one.send(Open("8"), idempotency_key="k2")

    async def test_an_interceptor_that_is_overtaken(self, store: EventStore) -> None:
        """A refusal before the handler counts only if nothing was stored by the key meanwhile."""
        elsewhere = bus_on(store)
        broken: list[Exception] = [Insufficient(balance=0, amount=0), KeyError("customer")]

        async def slow(message: CommandMessage, proceed: CommandNext) -> CommandResult:
            await elsewhere.send(message.command, idempotency_key=message.idempotency_key)
            raise broken.pop()

        handlers = Repository(Account, store, source="accounts").handlers()
        bus = LocalCommandBus([handlers], interceptors=[slow])
        for id in ("7", "8"):
            result = await bus.send(Open(id), idempotency_key=f"k{id}")
            assert (result.id, result.version, result.duplicate) == (id, 1, True)

    async def test_who_runs_for_repetitions_too(self, store: EventStore) -> None:
        """Authorization is asked for each send, and its refusal tells nothing of the first."""
        allowed = [True, True, False]

        async def authorize(message: CommandMessage, proceed: CommandNext) -> CommandResult:
            if not allowed.pop(0):
                raise Insufficient(balance=-1, amount=-1)
            return await proceed(message)

        handlers = Repository(Account, store, source="accounts").handlers()
        bus = LocalCommandBus([handlers], always=[authorize])
        await bus.send(Open("7"), idempotency_key="k")
        assert (await bus.send(Open("7"), idempotency_key="k")).duplicate
        with pytest.raises(Insufficient):
            await bus.send(Open("7"), idempotency_key="k")

    async def test_a_key_from_an_interceptor(self, store: EventStore) -> None:
        """A key that an interceptor gives or changes is looked up, too, before a refusal."""

        async def by_content(message: CommandMessage, proceed: CommandNext) -> CommandResult:
            command, about = message.command, message.metadata
            key = f"{about.tenant}/{message.idempotency_key}"
            return await proceed(CommandMessage(command, about, key, message.fingerprint))

        handlers = Repository(Account, store, source="accounts").handlers()
        bus = LocalCommandBus([handlers], interceptors=[by_content])
        for key in ("", "k"):
            open_it = Open(f"7{key}")
            about = [Metadata(id=f"{n}", tenant="a") for n in range(4)]
            outcomes = await outcomes_of(
                *(bus.dispatch(CommandMessage(open_it, each, key)) for each in about)
            )
            check_one_outcome(outcomes)
            foreign = CommandMessage(open_it, Metadata(id="x", tenant="b"), key)
            with pytest.raises(AggregateExists):
                await bus.dispatch(foreign)

    async def test_tenants_at_once(self, store: EventStore) -> None:
        """Who sends the same for another tenant does not get the outcome that is under way."""

        async def apart(message: CommandMessage, proceed: CommandNext) -> CommandResult:
            tenant = message.metadata.tenant
            return await proceed(
                CommandMessage(Open(tenant), message.metadata, f"{tenant}/k", message.fingerprint)
            )

        handlers = Repository(Account, store, source="accounts").handlers()
        bus = LocalCommandBus([handlers], interceptors=[apart])
        messages = [CommandMessage(Open("7"), Metadata(id=t, tenant=t), "k") for t in "abab"]
        outcomes = await outcomes_of(*(bus.dispatch(message) for message in messages))
        for which in range(2):
            assert check_one_outcome(outcomes[which::2]).id == "ab"[which]

    async def test_an_interceptor_that_sends_again(self, store: EventStore) -> None:
        """An interceptor may send the command that it surrounds again, under the same key."""

        async def stubborn(message: CommandMessage, proceed: CommandNext) -> CommandResult:
            try:
                return await proceed(message)
            except ConcurrencyConflict:
                return await bus.send(message.command, idempotency_key=message.idempotency_key)

        handlers = Repository(Account, store, source="accounts").handlers()
        bus = LocalCommandBus([handlers], interceptors=[stubborn])
        await bus.send(Open("7"))
        async with asyncio.timeout(30):
            result = await bus.send(Deposit("7", 1), idempotency_key="k", expected_version=5)
        assert (result.version, result.duplicate) == (2, False)
