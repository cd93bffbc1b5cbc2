"""One outcome per key and nobody's failure from a neighbour, in interleavings that are searched."""

import asyncio
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from headwater.dispatch import CommandMessage, CommandNext, CommandResult
from headwater.dispatch.local import LocalCommandBus
from headwater.errors import (
    AggregateExists,
    AggregateNotFound,
    ConcurrencyConflict,
    HeadwaterError,
    IdempotencyKeyReused,
)
from headwater.eventstore import StoredEvent
from headwater.messages import Command, Metadata
from headwater.messages.codec import decode_metadata
from headwater.modelling import Repository
from tests.unit.modelling.contention_rules import balances
from tests.unit.modelling.held_store import HeldStore
from tests.unit.modelling.ledger import (
    Account,
    Deposit,
    Ensure,
    Insufficient,
    Open,
    Withdraw,
)

COMMANDS: tuple[tuple[Command, int | None], ...] = (
    (Deposit("1", 5), None),
    (Withdraw("1", 5), None),
    (Withdraw("1", 3), None),
    (Deposit("1", 2), 1),
    (Deposit("1", 1, times=0), None),
    (Open("1"), None),
    (Ensure("1"), None),
    (Open("2"), None),
    (Deposit("1", 4, times=2), 2),
)
KEYS = st.sampled_from([0, 1, 0, 1, *range(len(COMMANDS))])


class Attempt:
    """One send: by whom, of what, and what came of it."""

    def __init__(self, number: int, bus: int, command: int, key: str) -> None:
        self.number = number
        self.bus = bus
        self.command = command
        self.key = key
        self.before = self.after = 0  # the version of the stream
        self.result: CommandResult | None = None
        self.error: BaseException | None = None

    @property
    def stream(self) -> str:
        return f"Account/{COMMANDS[self.command][0].account_id}"  # type: ignore[attr-defined]  # all have one


class Interleavings(RuleBasedStateMachine):
    """Two buses on one store, as in two processes; one of them has an interceptor."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = HeldStore()
        self.attempts: list[Attempt] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.asking: list[tuple[str, str]] = []  # the interceptor, at the moment
        self.asked_again: list[str] = []  # about what is stored or under way
        store: Any = self.store
        self.buses = [
            LocalCommandBus(
                [Repository(Account, store, source="x", cache_size=1, attempts=3).handlers()],
                interceptors=interceptors,
            )
            for interceptors in ([], [self.intercept])
        ]

    async def intercept(self, message: CommandMessage, proceed: CommandNext) -> CommandResult:
        key, same = message.idempotency_key, (message.idempotency_key, message.fingerprint)
        if key in self.store.memory._outcomes or (key and same in self.asking):
            self.asked_again.append(key)
        self.asking.append(same)
        try:
            await asyncio.sleep(0)
            return await proceed(message)
        finally:
            self.asking.remove(same)

    @rule(bus=st.integers(0, 1), command=KEYS, turns=st.integers(0, 6))
    def send(self, bus: int, command: int, turns: int) -> None:
        """Send a command with its key."""
        self._send(bus, command, f"key-{command}", turns)

    @rule(bus=st.integers(0, 1), command=KEYS)
    def send_without_key(self, bus: int, command: int) -> None:
        self._send(bus, command, "", 0)

    @rule(bus=st.integers(0, 1), command=KEYS, foreign=KEYS)
    def send_with_the_key_of_another(self, bus: int, command: int, foreign: int) -> None:
        self._send(bus, command, f"key-{foreign}", 0)

    @rule(count=st.integers(1, 5), turns=st.integers(0, 6))
    def carry_out(self, count: int, turns: int) -> None:
        self.runner.run(self.store.carry_out(count))
        self.turn(turns)

    @rule(turns=st.integers(1, 6))
    def turn(self, turns: int) -> None:
        async def some() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.runner.run(some())

    @rule(number=st.integers(0, 3))
    def cancel(self, number: int) -> None:
        running = [task for task in self.tasks if not task.done()]
        if number < len(running):
            running[number].cancel()

    @rule()
    def cancel_all(self) -> None:
        """Let everybody's time be up."""
        for task in self.tasks:
            task.cancel()
        self.turn(3)

    def _send(self, bus: int, command: int, key: str, turns: int) -> None:
        attempt = Attempt(len(self.attempts), bus, command, key)
        self.attempts.append(attempt)

        async def start() -> None:
            self.tasks.append(asyncio.create_task(self._carry_out(attempt)))

        self.runner.run(start())
        self.turn(turns)

    async def _carry_out(self, attempt: Attempt) -> None:
        command, version = COMMANDS[attempt.command]
        about = Metadata(id=f"{attempt.number}")
        attempt.before = await self.store.version(attempt.stream)
        message = CommandMessage(command, about, attempt.key, expected_version=version)
        try:
            attempt.result = await self.buses[attempt.bus].dispatch(message)
        except BaseException as error:
            attempt.error = error
            raise
        finally:
            attempt.after = await self.store.version(attempt.stream)

    async def _end(self) -> None:
        for _ in range(5000):
            if all(task.done() for task in self.tasks):
                break
            await self.store.carry_out(100)
            await asyncio.sleep(0)
        await self.store.carry_out(1000)
        for task in self.tasks:
            assert task.done(), "it waits for ever"
            if not task.cancelled():
                error = task.exception()
                assert error is None or isinstance(error, HeadwaterError), error

    def teardown(self) -> None:
        self.runner.run(self._end())
        assert not self.asked_again
        assert not any(bus._deduplication._waiting for bus in self.buses)
        streams = self.store.memory._streams
        stored: dict[str, list[StoredEvent]] = {}  # by the attempt that stored it
        for events in streams.values():
            for event in events:
                stored.setdefault(decode_metadata(event.metadata).causation_id, []).append(event)
        for attempt in self.attempts:
            self._check(attempt, stored.get(f"{attempt.number}", []))
        for key in {attempt.key for attempt in self.attempts if attempt.key}:
            self._check_key(key, [a for a in self.attempts if a.key == key], stored)
        self.runner.close()

    def _check(self, attempt: Attempt, events: list[StoredEvent]) -> None:
        """Check one attempt by itself: it is stored if and only if it was said so, or nothing."""
        error, result = attempt.error, attempt.result
        if isinstance(error, HeadwaterError):
            assert not events
            assert error.code not in {"pipeline-broken", "condition-failed"}
            named = [f"key-{n}" for n in range(len(COMMANDS)) if f"key-{n}" in str(error)]
            assert named in ([], [attempt.key])
            self._check_justified(attempt, attempt.after)
        if result is not None and events:
            assert not result.duplicate
            assert result.version == events[-1].version
        if result is not None and not attempt.key and COMMANDS[attempt.command][0] != Ensure("1"):
            times = getattr(COMMANDS[attempt.command][0], "times", 1)
            assert len(events) == times

    def _check_justified(self, attempt: Attempt, until: int) -> None:
        """Check that a refusal was true at some version of the stream while it was decided."""
        error = attempt.error
        running = balances(self.store.memory._streams.get(attempt.stream, []))
        versions = range(attempt.before, until + 1)
        if isinstance(error, Insufficient):
            assert error.balance in [running[version] for version in versions]
        elif isinstance(error, ConcurrencyConflict):
            assert error.actual in versions
            assert error.actual != error.expected
        elif isinstance(error, AggregateExists):
            assert until >= 1
        elif isinstance(error, AggregateNotFound):
            assert attempt.before == 0
        else:
            assert isinstance(error, IdempotencyKeyReused), error

    def _check_key(
        self, key: str, attempts: list[Attempt], stored: dict[str, list[StoredEvent]]
    ) -> None:
        """Check that a key has one outcome, and that no refusal came after it."""
        winners = [attempt for attempt in attempts if f"{attempt.number}" in stored]
        assert len(winners) <= 1, "it was carried out twice"
        told = [attempt.result for attempt in attempts if attempt.result is not None]
        assert len({(each.version, each.token) for each in told}) <= 1
        assert sum(not each.duplicate for each in told) <= 1
        for winner in winners:
            first = stored[f"{winner.number}"][0].version
            for attempt in attempts:
                if attempt.command != winner.command or not isinstance(
                    attempt.error, HeadwaterError
                ):
                    continue
                assert attempt.bus != winner.bus or attempt.number < winner.number
                self._check_justified(attempt, min(attempt.after, first - 1))
                assert attempt.before < first


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.generate],  # to shrink what is found takes longer than a test may
)
