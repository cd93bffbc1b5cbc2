"""Hot aggregates under contention: what was acknowledged is what is stored, exactly once."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import msgspec

from headwater.dispatch import CommandMessage, CommandResult
from headwater.dispatch.local import LocalCommandBus
from headwater.eventstore import EventStore, StoredEvent
from headwater.messages import Metadata
from headwater.messages.codec import decode_metadata
from headwater.modelling import Repository
from tests.unit.modelling.ledger import (
    Account,
    Deposit,
    Deposited,
    Ensure,
    Insufficient,
    Withdraw,
)
from tests.unit.modelling.repository_rules import put

ACCOUNTS = ("1", "2", "3")


class Sent(msgspec.Struct):
    """A command that was sent, perhaps several times, and what came of it."""

    id: str
    command: Deposit | Withdraw
    key: str
    results: list[CommandResult]
    refusals: list[Insufficient]
    windows: list[tuple[int, int]]  # stream versions before and after each refusal


async def send(bus: LocalCommandBus, store: EventStore, sent: Sent) -> None:
    before = await store.version(f"Account/{sent.id}")
    message = CommandMessage(sent.command, Metadata(id=sent.key), sent.key)
    try:
        sent.results.append(await bus.dispatch(message))
    except Insufficient as refusal:
        after = await store.version(f"Account/{sent.id}")
        sent.refusals.append(refusal)
        sent.windows.append((before, after))


async def contend(stores: Sequence[EventStore], seed: int) -> list[Sent]:
    """Send commands through a bus on each store, some twice, some cancelled; others interfere."""
    chance = random.Random(seed)
    buses = [
        LocalCommandBus([Repository(Account, store, source="accounts", cache_size=2).handlers()])
        for store in stores
    ]
    for id in ACCOUNTS:
        await buses[0].send(Ensure(id))
    sent: list[Sent] = []
    tasks: list[asyncio.Task[None]] = []
    for number in range(120):
        id = chance.choice(ACCOUNTS)
        make = chance.choice((Deposit, Withdraw, Withdraw))
        each = Sent(id, make(id, chance.randint(1, 9)), f"{seed}-{number}", [], [], [])
        sent.append(each)
        for _ in range(chance.choice((1, 1, 1, 2))):
            which = chance.randrange(len(buses))
            tasks.append(asyncio.create_task(send(buses[which], stores[which], each)))
        if chance.random() < 0.1:
            await put(chance.choice(stores), id, Deposited(id, chance.randint(1, 5)))
        if chance.random() < 0.05:
            chance.choice(tasks[-5:]).cancel()
        for _ in range(chance.choice((0, 0, 0, 1, 5))):
            await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
    return sent


async def histories(store: EventStore) -> dict[str, list[StoredEvent]]:
    return {
        id: [e async for page in store.read_stream(f"Account/{id}") for e in page.events]
        for id in ACCOUNTS
    }


def balances(events: Sequence[StoredEvent]) -> list[int]:
    """Return the balance after each version, from version 0."""
    found = [0]
    for event in events:
        amount = msgspec.json.decode(event.data).get("amount", 0)
        found.append(found[-1] + (amount if event.type == "Deposited" else -amount))
    return found


def check(sent: Sequence[Sent], history: dict[str, list[StoredEvent]]) -> None:
    """Compare what was told to the callers with what is stored."""
    causes = Counter(
        decode_metadata(event.metadata).causation_id
        for events in history.values()
        for event in events
    )
    for each in sent:
        events, running = history[each.id], balances(history[each.id])
        times = causes[each.key]
        assert times <= 1, f"{each.key} had its effect {times} times"
        assert len({result.version for result in each.results}) <= 1
        assert sum(not result.duplicate for result in each.results) <= 1
        for result in each.results:
            event = events[result.version - 1]
            assert decode_metadata(event.metadata).causation_id == each.key
            assert msgspec.json.decode(event.data)["amount"] == each.command.amount
        for refusal, (before, after) in zip(each.refusals, each.windows, strict=True):
            assert refusal.amount > refusal.balance
            assert refusal.balance in running[before : after + 1]
    for events in history.values():
        assert [event.version for event in events] == list(range(1, len(events) + 1))
        assert min(balances(events)) >= 0


async def outcome_under_contention(stores: Sequence[EventStore], seed: int) -> None:
    """Run one interleaving and check all of it."""
    sent = await contend(stores, seed)
    history = await histories(stores[0])
    check(sent, history)
    assert any(each.results for each in sent)
    fresh = Repository(Account, stores[-1], source="accounts")
    for id in ACCOUNTS:
        now = await fresh.state(id)
        assert (now.version, now.state.balance) == (len(history[id]), balances(history[id])[-1])
