"""Commands on hot accounts, carried out in this process or in another, and recorded.

Run as a script, it is another process: it takes lines of JSON, and says when it is done.
"""

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

import msgspec

from headwater.dispatch import CommandMessage
from headwater.dispatch.local import LocalCommandBus
from headwater.errors import DiskFull, StoreError, StoreUnavailable
from headwater.eventstore import EventStore, StoredEvent
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.messages import Metadata
from headwater.modelling import Repository
from headwater.testing.history import History, RecordedCommands
from tests.unit.modelling.contention_rules import balances
from tests.unit.modelling.ledger import Account, Deposit, Insufficient, Withdraw

ROOT = Path(__file__).parents[3]
ACCOUNTS = ("1", "2", "3")
CACHE_SIZE = 2
LOCK_TIMEOUT_S = 0.1


class Sent(msgspec.Struct):
    """A command, which may have been sent several times; a deposit, or below zero a withdrawal.

    ``told`` is what each attempt came to: acknowledged, refused, rejected (nothing was stored), or
    unknown.
    """

    key: str
    account: str
    amount: int
    told: list[str] = []


class Handle:
    """A store of one process with a repository on it, and a bus that records."""

    def __init__(self, store: EventStore, history: History) -> None:
        self.store = store
        self.repository = Repository(Account, store, source="accounts", cache_size=CACHE_SIZE)
        bus = LocalCommandBus([self.repository.handlers()])
        self.bus = RecordedCommands(history, bus, aggregates=[Account])

    @classmethod
    async def open(
        cls, url: str, history: History, *, lock_timeout_s: float = LOCK_TIMEOUT_S
    ) -> "Handle":
        if url.startswith("postgres"):
            opened: Any = await PostgresEventStore.open(
                url, lock_timeout_s=lock_timeout_s, resolve_timeout_s=0.2, readers=2
            )
        else:
            opened = await SQLiteEventStore.open(url, busy_timeout_s=lock_timeout_s, readers=1)
        return cls(opened, history)

    async def carry_out(self, sent: Sent) -> None:
        """Send a command once, and note what came of it."""
        make = Deposit if sent.amount > 0 else Withdraw
        command = make(sent.account, abs(sent.amount))
        message = CommandMessage(command, Metadata(id=sent.key), sent.key)
        attempt = len(sent.told)
        sent.told.append("unknown")  # if it is cancelled
        try:
            await self.bus.dispatch(message)
        except Insufficient:
            sent.told[attempt] = "refused"
        except (StoreUnavailable, StoreError, DiskFull) as error:
            sent.told[attempt] = "unknown" if error.outcome == "unknown" else "rejected"
        else:
            sent.told[attempt] = "acknowledged"

    async def close(self) -> None:
        await self.repository.close()
        await self.store.close()


async def histories(store: EventStore) -> dict[str, list[StoredEvent]]:
    return {
        id: [e async for page in store.read_stream(f"Account/{id}") for e in page.events]
        for id in ACCOUNTS
    }


def check_cached(handle: Handle, history: dict[str, list[StoredEvent]]) -> None:
    """The cache is bounded, and each state in it was that of the account at its version."""
    held = handle.repository._live
    assert len(held) <= CACHE_SIZE
    for id, live in held._live.items():
        if live.pipeline.broken is None:
            assert live.in_flight == 0
            assert live.state.balance == balances(history[id])[live.version]


class Order(msgspec.Struct):
    """A line to the other process: one of these; with ``open`` where it records."""

    open: str = ""
    calls: str = ""
    lock_timeout_s: float = LOCK_TIMEOUT_S
    send: Sent | None = None
    settle: bool = False


class OtherProcess:
    """Carries out commands beside this process; the script below."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.modelling.hot"],
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, order: Order) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{msgspec.json.encode(order).decode()}\n")
        self._process.stdin.flush()

    def ask(self, order: Order) -> None:
        """Tell it something, and wait until all that it does has ended."""
        self.tell(order)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "done\n"

    def end(self) -> None:
        try:
            self._process.communicate(timeout=30)
        finally:
            self._process.kill()
        assert self._process.returncode == 0


async def serve(answers: TextIO) -> None:
    """Do what the lines say; each but ``send`` is answered with a line when all has ended."""
    loop = asyncio.get_running_loop()
    handle: Handle | None = None
    history = History()
    tasks: list[asyncio.Task[None]] = []
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = msgspec.json.decode(line, type=Order)
        if order.send is not None:
            assert handle is not None
            tasks.append(asyncio.create_task(handle.carry_out(order.send)))
            continue
        await asyncio.gather(*tasks)
        if order.open:
            if handle is not None:
                await handle.close()
                history.close()
            history = History(order.calls)
            handle = await Handle.open(order.open, history, lock_timeout_s=order.lock_timeout_s)
        answers.write("done\n")
        answers.flush()
        tasks = []
    if handle is not None:
        await handle.close()


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # where log lines go
        asyncio.run(serve(sys.__stdout__))
