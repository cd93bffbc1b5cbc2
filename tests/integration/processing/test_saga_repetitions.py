"""Commands of sagas that are sent twice, as by two processes of which one believes it is alone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headwater.dispatch import CommandResult
from headwater.errors import NoInstance
from headwater.eventstore import NewEvent, StreamWrite
from headwater.messages import Command, new_metadata
from headwater.messages.idempotency import check_key
from headwater.processing import SagaProcessor, StoreSource
from headwater.processing.sagas.views import PendingCommand, SagaDeadline, SagaState
from tests.integration.processing.bank import (
    Credit,
    Insufficient,
    MoneyTransfer,
    Open,
    TransferRequested,
    Withdraw,
    command_bus,
)
from tests.integration.processing.conftest import QUICK, Stores, until


class Twice:
    """A command bus where everything is sent twice; the saga is told the outcome of the second."""

    def __init__(self, stores: Stores, *, elsewhere: bool) -> None:
        self.here, self.repository = command_bus(stores.store)
        self.there, self.other = command_bus(stores.store) if elsewhere else (self.here, None)
        self.keys: list[str] = []

    async def send(
        self,
        command: Command,
        *,
        idempotency_key: str = "",
        expected_version: int | None = None,
        keep_refusal: bool = False,
    ) -> CommandResult:
        """Send twice."""
        assert expected_version is None
        check_key(idempotency_key)
        self.keys.append(idempotency_key)
        first = asyncio.create_task(self.here.send(command, idempotency_key=idempotency_key))
        if len(self.keys) % 2:
            await asyncio.wait([first])  # the other one comes too late, else at the same time
        second = asyncio.create_task(self.there.send(command, idempotency_key=idempotency_key))
        await asyncio.wait([first, second])
        if not first.exception():
            assert first.result().version == (await second).version
        return await second


@pytest.fixture(params=[False, True], ids=["one process", "two processes"])
async def twice(request: pytest.FixtureRequest, stores: Stores) -> AsyncIterator[Twice]:
    made = Twice(stores, elsewhere=request.param)
    source = StoreSource(stores.store, "bank")
    saga = SagaProcessor(
        MoneyTransfer, source=source, views=stores.views, owner="me", commands=made, settings=QUICK
    )
    await saga.start()
    yield made
    await saga.stop()
    for repository in (made.repository, made.other):
        if repository is not None:
            await repository.close()


async def test_no_refusal_of_what_was_done(stores: Stores, twice: Twice) -> None:
    """A withdrawal of all there is, sent twice, is no refusal to its saga."""
    names = [f"t{n}" for n in range(20)]
    names += ["ü", "a\nb", "x" * 600, "\u3042" * 180]  # whose keys cannot be made of them alone
    for name in names:
        await twice.here.send(Open(f"from-{name[:150]!r}", 5))
    await twice.here.send(Open("shop", 0))
    for number, name in enumerate(names):
        event = TransferRequested(name, f"from-{name[:150]!r}", "shop", 5)
        new = NewEvent.of(event, new_metadata())
        await stores.store.append([StreamWrite(f"Transfer/{number}", [new])])

    async def idle() -> bool:
        kinds = (SagaState, PendingCommand, SagaDeadline)
        return not any([await stores.views.count(kind) for kind in kinds])

    await until(lambda: len(set(twice.keys)) == 2 * len(names), timeout_s=60.0)
    await until(idle, timeout_s=60.0)
    assert (await twice.repository.state("shop")).state.balance == 5 * len(names)
    for name in names:
        assert (await twice.repository.state(f"from-{name[:150]!r}")).state.balance == 0


class Late:
    """A command bus where the first send of a withdrawal hangs in a process that has stopped."""

    def __init__(self, stores: Stores) -> None:
        self.here, self.repository = command_bus(stores.store)
        self.stopped, self.other = command_bus(stores.store)
        self.goes_on = asyncio.Event()
        self.first: asyncio.Task[CommandResult] | None = None

    async def send(self, command: Command, **options: Any) -> CommandResult:
        """Send; nothing is heard of the first withdrawal."""
        if self.first is None and isinstance(command, Withdraw):
            self.first = asyncio.create_task(self._later(command, options))
            raise NoInstance(service="accounts")
        return await self.here.send(command, **options)

    async def _later(self, command: Command, options: dict[str, Any]) -> CommandResult:
        await self.goes_on.wait()
        return await self.stopped.send(command, **options)


async def test_nothing_is_carried_out_after_its_refusal(stores: Stores) -> None:
    """A send that a saga has given up finds the refusal on which the saga has acted."""
    late = Late(stores)
    source = StoreSource(stores.store, "bank")
    saga = SagaProcessor(
        MoneyTransfer, source=source, views=stores.views, owner="me", commands=late, settings=QUICK
    )
    for name in ("from", "shop"):
        await late.here.send(Open(name, 0))
    new = NewEvent.of(TransferRequested("t", "from", "shop", 5), new_metadata())
    await stores.store.append([StreamWrite("Transfer/t", [new])])
    await saga.start()

    async def idle() -> bool:
        kinds = (SagaState, PendingCommand, SagaDeadline)
        return not any([await stores.views.count(kind) for kind in kinds])

    await until(lambda: late.first is not None)
    await until(idle)
    await late.here.send(Credit("from", 5, "present"))
    late.goes_on.set()
    assert late.first is not None
    with pytest.raises(Insufficient):
        await late.first
    assert (await late.repository.state("from")).state.balance == 5
    await saga.stop()
    for repository in (late.repository, late.other):
        await repository.close()
