"""The checker judges commands and queries by the domain, and finds what is planted into a bus."""

import itertools
import random
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import pytest

from headwater.dispatch import CommandMessage, CommandResult
from headwater.dispatch.local import LocalCommandBus
from headwater.errors import AggregateExists, AggregateNotFound, HeadwaterError, Overloaded
from headwater.eventstore import ShardedEventStore, StoredEvent, StreamStore
from headwater.eventstore.memory import MemoryEventStore
from headwater.messages import Command, ConsistencyToken, Query, new_metadata
from headwater.modelling import Aggregate, Repository, command_handler
from headwater.testing.history import (
    AggregateRules,
    Answer,
    Ask,
    History,
    RecordedCommands,
    RecordedQueries,
    Verdict,
    ViewRules,
    canonical,
    check_store,
)
from tests.unit.modelling.ledger import (
    Account,
    Deposit,
    Deposited,
    Ensure,
    Insufficient,
    Withdraw,
    Withdrawn,
)

RULES = [AggregateRules(Account)]
ACCOUNTS = ("1", "2")


class Bus:
    """An honest bus; subclasses lie in one way, from the fifth occasion on."""

    rules: ClassVar[frozenset[str]] = frozenset()
    repository: ClassVar[type[Account]] = Account

    def __init__(self, store: MemoryEventStore) -> None:
        self.store = store
        self.occasions = 0
        self.bus = LocalCommandBus([Repository(self.repository, store, source="a").handlers()])

    async def send(self, command: Command, **options: Any) -> CommandResult:
        self.occasions += isinstance(command, Withdraw)
        if self.occasions > 5 and isinstance(command, Withdraw):
            return await self.lie(command, **options)
        return await self.bus.send(command, **options)

    async def lie(self, command: Withdraw, **options: Any) -> CommandResult:
        return await self.bus.send(command, **options)


class Stingy(Bus):
    """Refuses on a balance that the account did not have."""

    rules = frozenset({"refusal"})

    async def lie(self, command: Withdraw, **options: Any) -> CommandResult:
        raise Insufficient(balance=command.amount - 1, amount=command.amount)


class Generous(Bus):
    """Gives out more than there is."""

    rules = frozenset({"decision"})

    class Unchecked(Account):
        """An account without the rule."""

        stream_name = "Account"

        @command_handler
        def withdraw(self, command: Withdraw) -> Withdrawn:
            return Withdrawn(self.id, command.amount)

    repository = Unchecked


class Careless(Bus):
    """Acknowledges at the version that is there, and does nothing."""

    rules = frozenset({"decision"})

    async def lie(self, command: Withdraw, **options: Any) -> CommandResult:
        stream = f"Account/{command.account_id}"
        token = ConsistencyToken.at("a", self.store.epoch, await self.store.head())
        return CommandResult(command.account_id, await self.store.version(stream), token.encode())


class Losing(Bus):
    """Acknowledges at the version that would be next, and stores nothing."""

    rules = frozenset({"lost"})

    async def lie(self, command: Withdraw, **options: Any) -> CommandResult:
        stream = f"Account/{command.account_id}"
        token = ConsistencyToken.at("a", self.store.epoch, await self.store.head() + 1)
        version = await self.store.version(stream) + 1
        return CommandResult(command.account_id, version, token.encode())


class Misleading(Bus):
    """Tells another version than the one it stored."""

    rules = frozenset({"lost"})

    async def lie(self, command: Withdraw, **options: Any) -> CommandResult:
        result = await self.bus.send(command, **options)
        return msgspec.structs.replace(result, version=result.version + 1)


class Repeating(Bus):
    """Carries a command out twice."""

    rules = frozenset({"twice"})

    async def lie(self, command: Withdraw, **options: Any) -> CommandResult:
        await self.bus.send(command)
        return await self.bus.send(command)


class Denying(Bus):
    """Says that nothing was stored."""

    rules = frozenset({"not-stored"})

    async def lie(self, command: Withdraw, **options: Any) -> CommandResult:
        await self.bus.send(command, **options)
        raise Overloaded(limit=1)


class Forgetful(Bus):
    """Does not look its keys up."""

    rules = frozenset({"key", "twice"})

    async def lie(self, command: Withdraw, **options: Any) -> CommandResult:
        return await self.bus.send(command)


class Late(Bus):
    """Decides anew before it looks the key up, and refuses what is stored."""

    rules = frozenset({"refusal"})

    async def lie(self, command: Withdraw, **options: Any) -> CommandResult:
        result = await self.bus.send(command, **options)
        if result.duplicate:
            raise Insufficient(balance=0, amount=command.amount)
        return result


class Blind(Bus):
    """Says that what is there does not exist."""

    rules = frozenset({"refusal"})

    async def lie(self, command: Withdraw, **options: Any) -> CommandResult:
        raise AggregateNotFound(aggregate="Account", id=command.account_id)


class Haunted(Bus):
    """Says that what is not there exists."""

    rules = frozenset({"refusal"})

    async def lie(self, command: Withdraw, **options: Any) -> CommandResult:
        raise AggregateExists(aggregate="Account", id=command.account_id)


class IgnoresVersions(Bus):
    """Decides though the aggregate is at another version."""

    rules = frozenset({"expectation"})

    async def lie(self, command: Withdraw, **options: Any) -> CommandResult:
        return await self.bus.send(command, **{**options, "expected_version": None})


LIARS = [each for each in Bus.__subclasses__() if each.rules]


async def work(bus: RecordedCommands, store: MemoryEventStore, seed: int) -> None:
    """Send commands, some again under their key, some with a version, right or wrong."""
    chance = random.Random(seed)
    for account in ACCOUNTS:
        await bus.send(Ensure(account))
        await bus.send(Deposit(account, 40))
    for number in range(60):
        account = chance.choice((*ACCOUNTS, "nobody"))
        make = chance.choice((Deposit, Withdraw, Withdraw))
        command = make(account, chance.randint(1, 9))
        version = max(0, await store.version(f"Account/{account}") - chance.choice((0, 0, 1)))
        options: dict[str, Any] = chance.choice(
            ({}, {"idempotency_key": f"{number}"}, {"expected_version": version})
        )
        for _ in range(2 if "idempotency_key" in options else 1):
            try:
                await bus.send(command, **options)
            except HeadwaterError:
                continue


async def verdict_on(kind: type[Bus], seed: int) -> Verdict:
    """Let somebody work with a bus, and compare what was told with the log."""
    history, store = History(clock=itertools.count().__next__), MemoryEventStore()
    bus = RecordedCommands(history, kind(store), aggregates=[Account])
    await work(bus, store, seed)
    return await check_store(history, store, rules=RULES)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", LIARS, ids=lambda kind: kind.__name__)
async def test_a_fault_of_a_bus_is_found(kind: type[Bus], seed: int) -> None:
    """A command bus that lies is found out, by the rule it breaks."""
    verdict = await verdict_on(kind, seed)
    found = {violation.rule for violation in verdict.violations}
    assert kind.rules & found, verdict


@pytest.mark.parametrize("seed", range(20))
async def test_an_honest_bus_is_not_accused(seed: int) -> None:
    """Without a fault there is no violation, and every refusal was judged."""
    verdict = await verdict_on(Bus, seed)
    assert not verdict.violations, verdict
    assert verdict.unjudged == 0
    assert verdict.events > 20


async def test_refusals_without_rules_are_counted() -> None:
    """What nobody can judge is not passed over in silence."""
    history, store = History(), MemoryEventStore()
    bus = RecordedCommands(history, Bus(store), aggregates=[Account])
    await bus.send(Ensure("1"))
    with pytest.raises(Insufficient):
        await bus.send(Withdraw("1", 5))
    assert (await check_store(history, store)).unjudged == 1
    assert (await check_store(history, store, rules=RULES)).unjudged == 0


class GetBalance(Query[int]):
    account_id: str


def balance(value: int | None, event: StoredEvent) -> int:
    """Return the balance after one more event."""
    amount = msgspec.json.decode(event.data).get("amount", 0)
    return (value or 0) + (amount if event.type == "Deposited" else -amount)


VIEWS = [
    ViewRules(
        GetBalance,
        stream=lambda query: f"Account/{query['account_id']}",
        fold=balance,
        monotonic=True,
    )
]


class Queries:
    """A query bus that answers with the balance as it was so many events ago."""

    def __init__(self, store: StreamStore) -> None:
        self.store = store
        self.answer: Callable[[list[int | None]], Any] = lambda shown: shown[-1]

    async def ask(self, query: Any, *, token: Any = None) -> Any:
        shown: list[int | None] = [None]
        async for page in self.store.read_stream(f"Account/{query.account_id}"):
            for event in page.events:
                shown.append(balance(shown[-1], event))
        return self.answer(shown)


class Asking:
    """An account, and somebody who asks for its balance."""

    def __init__(self) -> None:
        self.history = History(clock=itertools.count().__next__)
        self.store = MemoryEventStore()
        self.bus = RecordedCommands(self.history, Bus(self.store), aggregates=[Account])
        self.plain = Queries(self.store)
        self.queries = RecordedQueries(self.history, self.plain, session="reader")

    async def rules(self) -> list[str]:
        verdict = await check_store(self.history, self.store, rules=RULES, views=VIEWS)
        return [violation.rule for violation in verdict.violations]


@pytest.fixture
async def asking() -> Asking:
    made = Asking()
    await made.bus.send(Ensure("1"))
    for amount in (10, 20, 30):
        await made.bus.send(Deposit("1", amount))
    return made


async def test_answers_of_views_are_prefixes(asking: Asking) -> None:
    """A view may be behind, be asked before there is anything, and catch up."""
    assert await asking.queries.ask(GetBalance("2")) is None
    for behind in (4, 2, 2, 1):
        asking.plain.answer = lambda shown, behind=behind: shown[-behind]
        await asking.queries.ask(GetBalance("1"))
    assert await asking.rules() == []


async def test_a_view_shows_what_a_token_asks_for(asking: Asking) -> None:
    """With the token of a command the answer includes what it did."""
    token = (await asking.bus.send(Deposit("1", 5))).token
    await asking.queries.ask(GetBalance("1"), token=token)
    assert await asking.rules() == []
    asking.plain.answer = lambda shown: shown[-2]
    await asking.queries.ask(GetBalance("1"), token=token)
    assert await asking.rules() == ["token"]


async def test_a_view_does_not_go_back(asking: Asking) -> None:
    """Who has seen something sees no less afterwards; another session may."""
    await asking.queries.ask(GetBalance("1"))
    asking.plain.answer = lambda shown: shown[-2]
    await RecordedQueries(asking.history, asking.plain, session="x").ask(GetBalance("1"))
    assert await asking.rules() == []
    await asking.queries.ask(GetBalance("1"))
    assert await asking.rules() == ["back"]


async def test_calls_that_overlap_may_see_either(asking: Asking) -> None:
    """Within a session, too, only what was answered before counts as seen."""
    asked = Ask("GetBalance", canonical({"account_id": "1"}))
    calls = [asking.history.call(asked, session="x") for _ in range(2)]
    for call, shown in zip(calls, (60, 30), strict=True):
        call.answer(Answer(canonical(shown)))
    assert await asking.rules() == []
    asking.history.call(asked, session="x").answer(Answer(canonical(30)))
    assert await asking.rules() == ["back"]


async def test_a_view_shows_nothing_else(asking: Asking) -> None:
    """An answer that no prefix leads to, or one of the future, is found."""
    asking.plain.answer = lambda shown: 17
    await asking.queries.ask(GetBalance("1"))
    asking.plain.answer = lambda shown: 65
    await asking.queries.ask(GetBalance("1"))
    await asking.bus.send(Deposit("1", 5))
    assert await asking.rules() == ["read", "read"]


async def test_what_interceptors_change_is_judged_by_its_acceptance() -> None:
    """Of a command that is not decided as it was sent it is asked whether it was accepted."""
    history, store = History(), MemoryEventStore()
    honest = Bus(store)

    class Doubling:
        async def send(self, command: Any, **options: Any) -> CommandResult:
            if isinstance(command, Deposit):
                command = Deposit(command.account_id, command.amount * 2)
            return await honest.send(command, **options)

    bus = RecordedCommands(history, Doubling(), aggregates=[Account])
    await bus.send(Ensure("1"))
    await bus.send(Deposit("1", 5))
    strict = await check_store(history, store, rules=RULES)
    assert [found.rule for found in strict.violations] == ["decision"]
    lenient = [AggregateRules(Account, altered=[Deposit])]
    assert not (await check_store(history, store, rules=lenient)).violations


async def test_commands_of_others_are_not_invented() -> None:
    """Events that nobody recorded are violations, unless they are said to be somebody else's."""
    history, store = History(), MemoryEventStore()
    bus = Bus(store)
    recorded = RecordedCommands(history, bus, aggregates=[Account])
    await recorded.send(Ensure("1"))
    await bus.send(Deposit("1", 5))
    found = await check_store(history, store, rules=RULES)
    assert [violation.rule for violation in found.violations] == ["invented"]
    others = await check_store(
        history, store, rules=RULES, foreign=lambda event: event.type == "Deposited"
    )
    assert not others.violations


async def test_a_message_keeps_its_own_conversation() -> None:
    """What is dispatched with metadata of its own is found by that."""
    history, store = History(), MemoryEventStore()
    bus = LocalCommandBus([Repository(Account, store, source="a").handlers()])
    recorded = RecordedCommands(history, bus, aggregates=[Account])
    about = new_metadata()
    await recorded.dispatch(CommandMessage(Ensure("1"), about))
    assert history.calls[0].request.conversation == about.correlation_id
    assert not (await check_store(history, store, rules=RULES)).violations


class Purse(Aggregate):
    """An account that is decided by its own stream alone."""

    stream_name = "Account"

    @command_handler(creates="if_missing")
    def deposit(self, command: Deposit) -> Deposited:
        return Deposited(self.id, command.amount)


async def test_views_of_a_sharded_store() -> None:
    """A token is of one shard: it says nothing about streams in another."""
    history = History()
    store = await ShardedEventStore.open([MemoryEventStore() for _ in range(2)])
    bus = LocalCommandBus([Repository(Purse, store, source="a").handlers()])
    commands = RecordedCommands(history, bus, aggregates=[Purse])
    plain = Queries(store)
    queries = RecordedQueries(history, plain)
    for account in "12345678":
        token = (await commands.send(Deposit(account, 5))).token
        for other in "12345678":
            assert await queries.ask(GetBalance(other), token=token) in (5, None)
    rules = [AggregateRules(Purse)]
    verdict = await check_store(history, store, rules=rules, views=VIEWS)
    assert not verdict.violations, verdict
    assert verdict.calls == len(history) == 72
    plain.answer = lambda shown: shown[-2]
    await queries.ask(GetBalance("8"), token=token)
    verdict = await check_store(history, store, views=VIEWS)
    assert [found.rule for found in verdict.violations] == ["token"]
