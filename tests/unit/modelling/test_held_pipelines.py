"""Pipelines at the moments that matter: what is decided has not been stored yet."""

import asyncio
from typing import Any, ClassVar

from headwater.dispatch import CommandResult
from headwater.dispatch.local import LocalCommandBus
from headwater.errors import Rejection
from headwater.messages import Command, Event
from headwater.modelling import Aggregate, Repository, command_handler, event_sourcing_handler
from tests.unit.modelling.held_store import HeldStore
from tests.unit.modelling.ledger import Account, Deposit, Ensure, Withdraw
from tests.unit.modelling.repository_rules import put, types_of


class Load(Command):
    fuse_id: str


class Use(Command):
    fuse_id: str


class Loaded(Event):
    fuse_id: str


class Used(Event):
    fuse_id: str


class Locked(Event):
    fuse_id: str


class IsLocked(Rejection):
    pass


class Fuse(Aggregate):
    """Can be used while nothing is loaded, else the handler fails; not be loaded when locked."""

    stream_name: ClassVar[str] = "Account"
    loaded: int = 0
    locked: bool = False

    @command_handler(creates="if_missing")
    def load(self, command: Load) -> Loaded:
        if self.locked:
            raise IsLocked
        return Loaded(self.id)

    @command_handler(creates="if_missing")
    def use(self, command: Use) -> Used:
        return [Used(self.id)][self.loaded]

    @event_sourcing_handler
    def on_loaded(self, event: Loaded) -> None:
        self.loaded += 1

    @event_sourcing_handler
    def on_locked(self, event: Locked) -> None:
        self.locked = True


async def turns() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def test_a_fault_in_a_state_that_never_was() -> None:
    """A fault of a handler is told as a refusal is: only where its state is what is stored."""
    store: Any = HeldStore()
    bus = LocalCommandBus([Repository(Fuse, store, source="x").handlers()])
    load = asyncio.create_task(bus.send(Load("1")))
    await turns()
    use = asyncio.create_task(bus.send(Use("1")))  # decided on what is loaded
    await turns()
    await put(store.memory, "1", Locked("1"))
    for _ in range(3):
        await store.carry_out(9)
        await turns()
    assert isinstance(load.exception(), IsLocked)
    assert (await use).version == 2
    assert await types_of(store.memory) == ["Locked", "Used"]


async def test_time_is_up_for_all_of_a_pipeline() -> None:
    """What is left in the queue by all its senders is found out by who sends one of it again."""
    store: Any = HeldStore()
    bus = LocalCommandBus([Repository(Account, store, source="x").handlers()])
    opening = asyncio.create_task(bus.send(Ensure("7")))
    await turns()
    await store.carry_out(1)
    await opening
    sent = [asyncio.create_task(bus.send(Deposit("7", 100), idempotency_key="d"))]
    sent.append(asyncio.create_task(bus.send(Withdraw("7", 100), idempotency_key="w")))
    await turns()
    for task in sent:
        task.cancel()
    await asyncio.wait(sent)
    again = asyncio.create_task(bus.send(Withdraw("7", 100), idempotency_key="w"))
    await turns()
    assert not again.done(), "nobody knows yet"
    await store.carry_out(9)
    assert await again == CommandResult("7", 3, (await again).token, duplicate=True)
    assert await types_of(store.memory) == ["Opened", "Deposited", "Withdrawn"]
