"""Pipelined decisions with commits that fail at any time, and another process that interferes."""

import asyncio
import contextlib
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import apsw
import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from headwater.errors import StoreUnavailable
from headwater.eventstore import StoredEvent
from headwater.testing.history import AggregateRules, History, RecordedStore, check_store
from tests.integration.modelling.hot import (
    ACCOUNTS,
    Handle,
    Order,
    OtherProcess,
    Sent,
    check_cached,
    histories,
)
from tests.postgres_server import PostgresServer, execute
from tests.unit.modelling.ledger import Account, Deposited, Ensure
from tests.unit.modelling.repository_rules import put

REFUSED_BY_DISK = 13  # a deposit that the database has no room for
ACCOUNT = st.sampled_from(ACCOUNTS[:1] * 4 + ACCOUNTS)  # the first is hot
AMOUNT = st.sampled_from([*range(-9, 0), *range(1, 10), REFUSED_BY_DISK])
COMMANDS = st.lists(st.tuples(ACCOUNT, AMOUNT), min_size=1, max_size=6)
RULES = [AggregateRules(Account)]
TURNS = st.sampled_from([0, 0, 0, 1, 3, 10])


class HotAggregates(RuleBasedStateMachine):
    """Two stores in this process and one in another, on the same events."""

    other: ClassVar[OtherProcess]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.sent: dict[str, Sent] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.holder: Any = None
        self.directory = tempfile.TemporaryDirectory()

    # --- what a backend gives ---

    def url(self) -> str:
        raise NotImplementedError

    async def refuse(self) -> None:
        """Let the database have no room for some deposits."""
        raise NotImplementedError

    async def hold(self) -> None:
        """Let somebody else lock the log."""
        raise NotImplementedError

    async def let_go(self) -> None:
        raise NotImplementedError

    # --- what can happen ---

    @initialize()
    def open(self) -> None:
        self.calls = str(Path(self.directory.name) / "calls.jsonl")
        self.history = History(self.calls)
        self.runner.run(self._open())
        self.other.ask(Order(open=self.url(), calls=self.calls))

    async def _open(self) -> None:
        self.handles = [await Handle.open(self.url(), self.history) for _ in range(2)]
        await self.refuse()
        for id in ACCOUNTS:
            await self.handles[0].bus.send(Ensure(id))

    @rule(which=st.integers(0, 1), commands=COMMANDS, turns=TURNS)
    def send(self, which: int, commands: list[tuple[str, int]], turns: int) -> None:
        for account, amount in commands:
            self._send(which, Sent(uuid.uuid4().hex, account, amount))
        self.turn(turns)

    @rule(commands=COMMANDS)
    def send_in_the_other_process(self, commands: list[tuple[str, int]]) -> None:
        for account, amount in commands:
            self.other.tell(Order(send=Sent(uuid.uuid4().hex, account, amount)))

    @rule(which=st.integers(0, 1))
    def send_again_elsewhere(self, which: int) -> None:
        if self.sent:
            self._send(which, list(self.sent.values())[-1])

    def _send(self, which: int, sent: Sent) -> None:
        async def start() -> None:
            self.tasks.append(asyncio.ensure_future(self.handles[which].carry_out(sent)))

        self.sent[sent.key] = sent
        self.runner.run(start())

    @rule(which=st.integers(0, 1), account=ACCOUNT, amount=st.integers(1, 5))
    def append_behind_its_back(self, which: int, account: str, amount: int) -> None:
        if self.holder is None:
            deposited = Deposited(account, amount)
            with contextlib.suppress(StoreUnavailable):  # locked for too long by the others
                self.runner.run(put(self.handles[which].store, account, deposited))

    @rule(turns=st.integers(1, 30))
    def turn(self, turns: int) -> None:
        async def some() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.runner.run(some())

    @rule(number=st.integers(0, 5))
    def cancel(self, number: int) -> None:
        running = [task for task in self.tasks if not task.done()]
        if number < len(running):
            running[number].cancel()

    @rule()
    def lock(self) -> None:
        if self.holder is None:
            self.runner.run(self.hold())

    @rule()
    def unlock(self) -> None:
        if self.holder is not None:
            self.runner.run(self.let_go())

    @rule()
    def wait_for_one(self) -> None:
        """Something ends: stored, or given up because the log is locked for too long."""
        running = [task for task in self.tasks if not task.done()]
        if running:
            first = asyncio.FIRST_COMPLETED
            self.runner.run(asyncio.wait(running, return_when=first))

    @precondition(lambda self: len(self.tasks) > 20)
    @rule()
    def settle(self) -> None:
        """Let everything end, and compare it with what is stored."""
        self.unlock()
        self.runner.run(self._settle())
        self.other.ask(Order(settle=True))
        self.runner.run(self._check())

    async def _settle(self) -> None:
        outcomes = await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = []
        for outcome in outcomes:
            assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome

    async def _check(self) -> None:
        for handle in self.handles:
            with contextlib.suppress(StoreUnavailable):
                await put(handle.store, "behind", Deposited("behind", 1))  # what was cancelled
        store = self.handles[0].store
        for key in self.sent:
            await RecordedStore(self.history, store).outcome(key)
        history = await histories(store)
        for handle in self.handles:
            check_cached(handle, history)
        recorded = History.load(self.calls)
        verdict = await check_store(recorded, store, rules=RULES, foreign=_is_foreign)
        assert not verdict.violations, verdict

    def teardown(self) -> None:
        if hasattr(self, "handles"):
            self.settle()
            for handle in self.handles:
                self.runner.run(handle.close())
            self.history.close()
        self.runner.close()
        self.directory.cleanup()


def _is_foreign(event: StoredEvent) -> bool:
    return b'"foreign"' in event.metadata


class OnSQLite(HotAggregates):
    """On one file."""

    def __init__(self) -> None:
        super().__init__()
        self.path = str(Path(self.directory.name) / "events.db")

    def url(self) -> str:
        return self.path

    async def refuse(self) -> None:
        with contextlib.closing(apsw.Connection(self.path)) as connection:
            connection.execute(
                "CREATE TRIGGER no_room BEFORE INSERT ON events WHEN CAST(NEW.data AS TEXT) "
                f"""LIKE '%"amount":{REFUSED_BY_DISK}%' BEGIN SELECT RAISE(ABORT, 'no room'); END"""
            )

    async def hold(self) -> None:
        self.holder = apsw.Connection(self.path)
        self.holder.set_busy_timeout(10_000)
        self.holder.execute("BEGIN IMMEDIATE")

    async def let_go(self) -> None:
        self.holder.close(True)
        self.holder = None


class OnPostgres(HotAggregates):
    """On one schema; the server also breaks connections, and says that its disk is full."""

    server: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.schema = f"t_{uuid.uuid4().hex}"

    def url(self) -> str:
        return f"{self.server}{'&' if '?' in self.server else '?'}schema={self.schema}"

    async def refuse(self) -> None:
        connection = await asyncpg.connect(self.server)
        await connection.execute(
            f"CREATE FUNCTION {self.schema}.no_room() RETURNS trigger LANGUAGE plpgsql AS "
            f"""'BEGIN IF convert_from(NEW.data, ''utf8'') LIKE ''%"amount":{REFUSED_BY_DISK}%'' """
            "THEN RAISE disk_full; END IF; RETURN NEW; END'; "
            f"CREATE TRIGGER no_room BEFORE INSERT ON {self.schema}.events "
            f"FOR EACH ROW EXECUTE FUNCTION {self.schema}.no_room()"
        )
        await connection.close()

    async def hold(self) -> None:
        self.holder = await asyncpg.connect(self.server)
        await self.holder.execute(
            "BEGIN; SELECT pg_advisory_xact_lock((1751474532::bigint << 32) "
            f"| '{self.schema}.events'::regclass::oid::bigint)"
        )

    async def let_go(self) -> None:
        await self.holder.close()
        self.holder = None

    @rule(which=st.integers(0, 1))
    def break_a_connection(self, which: int) -> None:
        writer: Any = self.handles[which].store._writer  # type: ignore[attr-defined]  # PostgreSQL
        if writer._connection is not None and not writer._connection.is_closed():
            execute(
                self.server, f"SELECT pg_terminate_backend({writer._connection.get_server_pid()})"
            )

    def teardown(self) -> None:
        super().teardown()
        execute(self.server, f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")


HotAggregates.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    phases=[Phase.reuse, Phase.generate],  # two processes: shrinking would chase their luck
    suppress_health_check=list(HealthCheck),
)
OnSQLite.TestCase.settings = OnPostgres.TestCase.settings = HotAggregates.TestCase.settings


@pytest.fixture
def other_process() -> Iterator[None]:
    HotAggregates.other = OtherProcess()
    yield
    HotAggregates.other.end()


@pytest.mark.usefixtures("other_process")
class TestOnSQLite(OnSQLite.TestCase):
    """Nothing acknowledged is lost, nothing stored twice, no refusal on what never happened."""


@pytest.mark.usefixtures("other_process")
class TestOnPostgres(OnPostgres.TestCase):
    """Nothing acknowledged is lost, nothing stored twice, no refusal on what never happened."""

    @pytest.fixture(autouse=True)
    def at(self, postgres_server: str) -> None:
        OnPostgres.server = postgres_server


@pytest.mark.parametrize("how", ["kill", "immediate"])
async def test_the_server_restarts_between_commits(own_postgres: PostgresServer, how: str) -> None:
    """Each command that is sent again until it is answered has its effect once, in one order."""
    calls = History()
    handle = await Handle.open(own_postgres.url(schema="x"), calls)
    await handle.bus.send(Ensure(ACCOUNTS[0]))
    commands = [
        [Sent(f"{caller}-{n}", ACCOUNTS[0], (7, -2, -3)[n % 3]) for n in range(120)]
        for caller in range(8)
    ]
    answered = {"acknowledged", "refused"}
    done = asyncio.Semaphore(0)

    async def caller(own: list[Sent]) -> None:
        for sent in own:
            while answered.isdisjoint(sent.told):
                await handle.carry_out(sent)
                await asyncio.sleep(0)  # a socket that is not there is refused without waiting
            done.release()

    callers = [asyncio.create_task(caller(own)) for own in commands]
    async with asyncio.timeout(120), contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(handle.close)
        for _ in range(3):
            for _ in range(150):
                await done.acquire()
            if how == "kill":
                await asyncio.to_thread(own_postgres.kill)
            else:
                await asyncio.to_thread(own_postgres.stop, signal.SIGQUIT)
            await asyncio.to_thread(own_postgres.start)
        await asyncio.gather(*callers)
        history = await histories(handle.store)
        sent = [one for own in commands for one in own]
        check_cached(handle, history)
        told = [what for one in sent for what in one.told]
        assert len(history[ACCOUNTS[0]]) == 1 + told.count("acknowledged")
        verdict = await check_store(calls, handle.store, rules=RULES)
        assert not verdict.violations, verdict
