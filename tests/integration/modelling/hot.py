"""Commands on hot accounts, carried out in this process or in another: who was told what.

Run as a script, it is another process: it takes lines of JSON, and answers with lines of JSON.
"""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, TextIO

import msgspec

from headwater.dispatch import CommandMessage
from headwater.dispatch.local import LocalCommandBus
from headwater.errors import DiskFull, StoreError, StoreUnavailable
from headwater.eventstore import EventStore, StoredEvent
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.messages import Metadata, decode_metadata
from headwater.modelling import Repository
from headwater.testing.history import History, RecordedCommands
from tests.unit.modelling.contention_rules import balances
from tests.unit.modelling.ledger import Account, Deposit, Insufficient, Withdraw

ACCOUNTS = ("1", "2", "3")
CACHE_SIZE = 2
LOCK_TIMEOUT_S = 0.1


class Told(msgspec.Struct):
    """What one attempt was told; ``window`` are the stream's versions before and after it."""

    what: str  # acknowledged, refused, rejected (nothing was stored), unknown
    version: int = 0
    duplicate: bool = False
    balance: int = 0
    window: tuple[int, int] = (0, 0)


class Sent(msgspec.Struct):
    """A command, which may have been sent several times; a deposit, or below zero a withdrawal."""

    key: str
    account: str
    amount: int
    told: list[Told] = []


class Handle:
    """A store of one process with a repository on it."""

    def __init__(self, store: EventStore) -> None:
        self.store = store
        self.repository = Repository(Account, store, source="accounts", cache_size=CACHE_SIZE)
        self.bus: LocalCommandBus | RecordedCommands
        self.bus = LocalCommandBus([self.repository.handlers()])

    @classmethod
    async def open(cls, url: str) -> "Handle":
        if url.startswith("postgres"):
            opened: Any = await PostgresEventStore.open(
                url, lock_timeout_s=LOCK_TIMEOUT_S, resolve_timeout_s=0.2, readers=2
            )
        else:
            opened = await SQLiteEventStore.open(url, busy_timeout_s=LOCK_TIMEOUT_S, readers=1)
        return cls(opened)

    async def carry_out(self, sent: Sent) -> None:
        """Send a command once, and note what came of it."""
        make = Deposit if sent.amount > 0 else Withdraw
        command = make(sent.account, abs(sent.amount))
        message = CommandMessage(command, Metadata(id=sent.key), sent.key)
        told = Told("unknown")
        sent.told.append(told)  # if it is cancelled
        try:
            before = await self._version(sent)
            try:
                result = await self.bus.dispatch(message)
            except Insufficient as refusal:
                told.window = (before, await self._version(sent))
                told.what, told.balance = "refused", refusal.balance
                return
        except (StoreUnavailable, StoreError, DiskFull) as error:
            told.what = "unknown" if "unknown" in str(error) else "rejected"
        else:
            told.what, told.version = "acknowledged", result.version
            told.duplicate = result.duplicate

    async def _version(self, sent: Sent) -> int:
        return await self.store.version(f"Account/{sent.account}")

    def record(self, history: History) -> None:
        """Let a history note all commands from now on."""
        self.bus = RecordedCommands(history, self.bus, aggregates=[Account])

    async def close(self) -> None:
        await self.repository.close()
        await self.store.close()


async def histories(store: EventStore) -> dict[str, list[StoredEvent]]:
    return {
        id: [e async for page in store.read_stream(f"Account/{id}") for e in page.events]
        for id in ACCOUNTS
    }


def check_told(sent: Sequence[Sent], history: dict[str, list[StoredEvent]]) -> None:
    """Compare what callers were told with what is stored."""
    causes = Counter(
        decode_metadata(event.metadata).causation_id
        for events in history.values()
        for event in events
    )
    for each in sent:
        times = causes[each.key]
        assert times <= 1, f"{each.key} had its effect {times} times"
        events, running = history[each.account], balances(history[each.account])
        acknowledged = [told for told in each.told if told.what == "acknowledged"]
        assert len({told.version for told in acknowledged}) <= 1
        assert sum(not told.duplicate for told in acknowledged) <= 1
        for told in acknowledged:
            event = events[told.version - 1]
            assert decode_metadata(event.metadata).causation_id == each.key
            assert msgspec.json.decode(event.data)["amount"] == abs(each.amount)
        if not acknowledged and all(told.what != "unknown" for told in each.told):
            assert times == 0, f"{each.key} was {each.told}, but it is stored"
        for told in each.told:
            if told.what == "refused":
                before, after = told.window
                assert told.balance < abs(each.amount)
                assert told.balance in running[before : after + 1]
    for events in history.values():
        assert [event.version for event in events] == list(range(1, len(events) + 1))
        assert min(balances(events)) >= 0


def check_cached(handle: Handle, history: dict[str, list[StoredEvent]]) -> None:
    """The cache is bounded, and each state in it was that of the account at its version."""
    cells = handle.repository._cells
    assert len(cells) <= CACHE_SIZE
    for id, cell in cells._cells.items():
        if cell.pipeline.broken is None:
            assert cell.in_flight == 0
            assert cell.state.balance == balances(history[id])[cell.version]


class Order(msgspec.Struct):
    """A line to the other process: one of these."""

    open: str = ""
    send: Sent | None = None
    settle: bool = False
    calls: str = ""  # where they are recorded from now on


async def serve(answers: TextIO) -> None:
    """Do what the lines say; each but ``send`` is answered with a line: all that was told."""
    loop = asyncio.get_running_loop()
    handle: Handle | None = None
    sent: list[Sent] = []
    tasks: list[asyncio.Task[None]] = []
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = msgspec.json.decode(line, type=Order)
        if order.send is not None:
            assert handle is not None
            sent.append(order.send)
            tasks.append(asyncio.create_task(handle.carry_out(order.send)))
            continue
        await asyncio.gather(*tasks)
        if order.open:
            if handle is not None:
                await handle.close()
            handle = await Handle.open(order.open)
        answers.write(f"{msgspec.json.encode(sent).decode()}\n")
        answers.flush()
        sent, tasks = [], []
        if order.calls and handle is not None:
            handle.record(History(order.calls))
    if handle is not None:
        await handle.close()


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # where log lines go
        asyncio.run(serve(sys.__stdout__))
