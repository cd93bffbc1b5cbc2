"""Sending the commands of sagas: nothing lost, nothing out of order, whatever comes in between."""

import asyncio
import random
from collections.abc import Callable

import msgspec
import pytest

from headwater.dispatch import CommandResult
from headwater.errors import (
    AggregateExists,
    AggregateNotFound,
    CircuitOpen,
    ConcurrencyConflict,
    DeadlineExceeded,
    Draining,
    Forbidden,
    HeadwaterError,
    IdempotencyKeyReused,
    MalformedMessage,
    NoInstance,
    Overloaded,
    Rejection,
    RemoteError,
    RemoteRejection,
    RouteNotFound,
    Unauthenticated,
    Unexpected,
    UnknownMessage,
    ViewNotFound,
)
from headwater.messages import Command, Metadata
from headwater.processing.sagas.sender import Outcome, Outgoing, Sender, ends
from headwater.processing.sagas.views import PendingCommand
from headwater.processing.settings import ProcessorSettings

SETTINGS = ProcessorSettings(back_off_s=0.0001, back_off_max_s=0.001)


class Do(Command):
    id: str


class Refused(Rejection):
    pass


DECISIONS = [
    Refused(),
    RemoteRejection(source="s", remote_code="c", detail="d"),
    AggregateNotFound(aggregate="A", id="1"),
    AggregateExists(aggregate="A", id="1"),
]
NO_DECISIONS = [
    UnknownMessage(name="Do"),
    RouteNotFound(method="POST", path="/do"),
    ViewNotFound(view="V", key="1"),
    MalformedMessage(name="command 'Do'", reason="an older version"),
    Forbidden(action="do"),
    Unauthenticated(),
    ConcurrencyConflict(stream="A/1", expected=1, actual=2),
    Overloaded(limit=1),
    Draining(service="s"),
    CircuitOpen(target="s"),
    NoInstance(service="s"),
    DeadlineExceeded(action="Do", timeout_s=1.0),
    RemoteError(source="s", remote_status=404, detail="d"),
    Unexpected(reference="r"),
    ValueError("not ours"),
]


@pytest.mark.parametrize("error", DECISIONS, ids=lambda error: type(error).__name__)
def test_a_decision_ends_a_command(error: HeadwaterError) -> None:
    """What a handler decided is not asked again."""
    assert ends(error)


@pytest.mark.parametrize("error", NO_DECISIONS, ids=lambda error: type(error).__name__)
def test_what_nobody_decided_is_sent_again(error: Exception) -> None:
    """No answer that is not a handler's ends a command, whatever its status."""
    assert not ends(error)


async def until(condition: Callable[[], object]) -> None:
    """Let everybody else go on until a condition holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # each turn of the loop counts here
            await asyncio.sleep(0)


def row(saga: str, number: int) -> PendingCommand:
    name = f"{saga}/{number:03d}"
    return PendingCommand(name, "q", saga, "Do", f'{{"id":"{name}"}}', name, Metadata(name))


class World:
    """Stored commands of some sagas, in segments that come and go, and a bus with faults.

    What is stored is what a saga processor keeps in its views: a command goes when its outcome is
    known to whoever holds the segment, and a segment that is claimed sends what is stored.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.sender = Sender(self, concurrency=3, settings=SETTINGS, clock=float, done=self.done)
        self.stored: dict[str, list[PendingCommand]] = {f"s{n}": [] for n in range(4)}
        self.held: set[int] = set()
        self.carried_out: list[str] = []
        self.lost: set[str] = set()
        self.ended: list[str] = []
        self.made = 0
        self.faults = True

    async def send(
        self,
        command: Command,
        *,
        idempotency_key: str = "",
        expected_version: int | None = None,
        keep_refusal: bool = False,
    ) -> CommandResult:
        """Be the command bus: slow, away, or deaf after the work is done."""
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)
        chance = self.random.random() if self.faults else 1.0
        if chance < 0.3:
            raise NoInstance(service="s")
        if idempotency_key not in self.carried_out:
            self.carried_out.append(idempotency_key)
        if chance < 0.4:
            raise NoInstance(service="s")
        if chance < 0.5:
            raise Refused
        return CommandResult("", 1, "")

    def done(self, outcome: Outcome) -> None:
        name = outcome.sent.row.id
        assert outcome.sent.segment in self.held, "an outcome of a segment that was given up"
        assert self.stored[outcome.sent.row.saga][0].id == name, "not the one that was sent"
        self.stored[outcome.sent.row.saga].pop(0)
        self.ended.append(name)

    def segment(self, saga: str) -> int:
        return int(saga[1:]) % 2

    def step(self) -> None:
        """Do one of the things that a processor does."""
        chance, segment = self.random.random(), self.random.randrange(2)
        if chance < 0.4 and self.made < 40:
            saga = self.random.choice(list(self.stored))
            self.made += 1
            self.stored[saga].append(row(saga, self.made))
            if self.segment(saga) in self.held:
                self.add(self.stored[saga][-1])
        elif segment in self.held and chance < 0.7:
            self.held.discard(segment)
            self.sender.drop({segment})
        elif segment not in self.held:
            self.claim(segment)

    def claim(self, segment: int) -> None:
        self.held.add(segment)
        for saga, rows in self.stored.items():
            for each in rows if self.segment(saga) == segment else ():
                self.add(each)

    def add(self, each: PendingCommand) -> None:
        command = msgspec.json.decode(each.content, type=Do)
        self.sender.add(Outgoing(each, command, self.segment(each.saga)))


@pytest.mark.parametrize("seed", range(150))
async def test_segments_that_come_and_go(seed: int) -> None:
    """Given up and claimed again at any moment, each command is sent in order to its one end."""
    world = World(seed)
    for _ in range(150):
        world.step()
        for _ in range(world.random.randrange(3)):
            await asyncio.sleep(0)
        if world.random.random() < 0.05:
            await asyncio.sleep(0.0005)  # repetitions fall due
    world.faults = False
    for segment in {0, 1} - world.held:
        world.claim(segment)
    await until(lambda: not any(world.stored.values()))
    assert not world.sender.waiting
    assert len(world.ended) == len(set(world.ended)) == world.made
    assert set(world.carried_out) == set(world.ended)
    for saga in world.stored:
        for names in (world.carried_out, world.ended):
            of_saga = [name for name in names if name.startswith(f"{saga}/")]
            assert of_saga == sorted(of_saga)
    await world.sender.close()


async def test_a_queue_that_was_given_up_holds_nobody_up() -> None:
    """A send that hangs in a segment that was given up does not keep later ones waiting."""
    hanging, outcomes = asyncio.Event(), []

    class Bus:
        async def send(self, command: Command, **_: object) -> CommandResult:
            if not hanging.is_set():
                hanging.set()
                await asyncio.Event().wait()
            return CommandResult("", 1, "")

    sender = Sender(Bus(), concurrency=3, settings=SETTINGS, clock=float, done=outcomes.append)
    sender.add(Outgoing(row("s0", 1), Do("1"), 0))
    await hanging.wait()
    sender.drop({0})
    sender.add(Outgoing(row("s0", 1), Do("1"), 0))
    await until(lambda: outcomes)
    await sender.close()


async def test_what_cannot_be_read_here_waits_visibly() -> None:
    """A stored command without its class is shown with the reason, until it is taken elsewhere."""
    sender = Sender(World(0), concurrency=1, settings=SETTINGS, clock=float, done=lambda _: None)
    sender.add(Outgoing(row("s0", 1), LookupError("no command class named 'Do' is known"), 0))
    await until(lambda: sender.waiting and sender.waiting[0].tries > 2)
    assert "no command class" in sender.waiting[0].error
    await sender.close()


def test_a_key_of_another_command_ends_but_is_no_decision() -> None:
    """A key that belongs to another command can never be used: a person must look at it."""
    error = IdempotencyKeyReused(key="k")
    assert ends(error)
    assert not error.decided
