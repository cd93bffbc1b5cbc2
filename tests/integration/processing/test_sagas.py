"""Sagas: state, commands and deadlines that survive everything and take effect once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from headwater.dispatch import CommandResult
from headwater.errors import (
    EventParked,
    Forbidden,
    HeadwaterError,
    IdempotencyKeyReused,
    MalformedMessage,
    NoInstance,
    RemoteError,
    UnknownMessage,
)
from headwater.eventstore import NewEvent, StreamWrite
from headwater.messages import Command, ConsistencyToken, current, new_metadata
from headwater.messages.codec import decode_metadata
from headwater.processing import ProcessorAdmin, SagaProcessor, StoreSource
from headwater.processing.sagas.processor import saga_applier
from headwater.processing.sagas.views import PendingCommand, SagaDeadline, SagaState
from tests.integration.processing.bank import (
    Credit,
    MoneyTransfer,
    Open,
    Poked,
    TransferRequested,
    Withdraw,
    command_bus,
)
from tests.integration.processing.conftest import QUICK, Stores, until


class Bank:
    """The accounts of a store, and a saga over it; `down` makes the command bus unavailable."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.bus, self.repository = command_bus(stores.store)
        self.down = False
        self.undecided: BaseException | None = None
        self.answers_lost = 0
        self.sent: list[tuple[Command, str]] = []
        self.started: list[SagaProcessor] = []
        self.settings = QUICK

    @property
    def source(self) -> StoreSource:
        return StoreSource(self.stores.store, "bank")

    async def send(
        self, command: Command, *, idempotency_key: str = "", **_: object
    ) -> CommandResult:
        """Be the command bus, with faults."""
        if self.down:
            raise NoInstance(service="accounts")
        if self.undecided is not None:
            raise self.undecided
        self.sent.append((command, idempotency_key))
        result = await self.bus.send(command, idempotency_key=idempotency_key)
        if self.answers_lost:
            self.answers_lost -= 1
            raise NoInstance(service="accounts")
        return result

    async def start(self, owner: str = "me") -> SagaProcessor:
        saga = SagaProcessor(
            MoneyTransfer,
            source=self.source,
            views=self.stores.views,
            owner=owner,
            commands=self,
            settings=self.settings,
        )
        await saga.start()
        self.started.append(saga)
        return saga

    def admin(self) -> ProcessorAdmin:
        applier = saga_applier(MoneyTransfer, source=self.source, settings=self.settings)
        return ProcessorAdmin(
            applier, source=self.source, views=self.stores.views, settings=self.settings
        )

    async def open(self, **balances: int) -> None:
        for name, balance in balances.items():
            await self.bus.send(Open(name, balance))

    async def happened(self, event: TransferRequested | Poked) -> ConsistencyToken:
        """Store an event as a transfer service would."""
        new, store = NewEvent.of(event, new_metadata()), self.stores.store
        stored = await store.append([StreamWrite(f"Transfer/{event.transfer_id}", [new])])
        return ConsistencyToken.at("bank", store.epoch, stored.last, shard=stored.shard)

    async def balance(self, account: str) -> int:
        return (await self.repository.state(account)).state.balance

    async def idle(self) -> bool:
        """Whether every saga is over and everything was sent."""
        views = self.stores.views
        return bool(self.sent) and not any(  # before it is asked: then its saga has begun
            [await views.count(kind) for kind in (SagaState, PendingCommand, SagaDeadline)]
        )


@pytest.fixture
async def bank(stores: Stores) -> AsyncIterator[Bank]:
    """A bank on both backends."""
    made = Bank(stores)
    yield made
    for saga in made.started:
        await saga.stop()
    await made.repository.close()


async def test_transfers_settle_once(bank: Bank) -> None:
    """Each of many concurrent transfers moves its money once; afterwards nothing is left over."""
    await bank.open(shop=0, **{f"c{n}": 100 for n in range(20)})
    await bank.start()
    for n in range(100):
        await bank.happened(TransferRequested(f"t{n}", f"c{n % 20}", "shop", 3))
    await until(bank.idle)
    assert await bank.balance("shop") == 300
    assert [await bank.balance(f"c{n}") for n in range(20)] == [85] * 20
    assert len({key for _, key in bank.sent}) == 200


async def test_refused_withdrawal_ends_the_saga(bank: Bank) -> None:
    """A rejection reaches the handler of its command, which decides what follows."""
    await bank.open(shop=0, poor=1)
    await bank.start()
    await bank.happened(TransferRequested("t", "poor", "shop", 3))
    await until(bank.idle)
    assert (await bank.balance("poor"), await bank.balance("shop")) == (1, 0)
    assert [type(command) for command, _ in bank.sent] == [Withdraw]


async def test_failed_credit_is_compensated(bank: Bank) -> None:
    """When the target does not exist the withdrawal is paid back."""
    await bank.open(rich=10)
    await bank.start()
    await bank.happened(TransferRequested("t", "rich", "nobody", 3))
    await until(bank.idle)
    assert await bank.balance("rich") == 10
    assert [type(command) for command, _ in bank.sent] == [Withdraw, Credit, Credit]


async def test_commands_wait_for_who_is_away(bank: Bank) -> None:
    """Unavailable is tried again for ever, visibly, and under the same key."""
    await bank.open(shop=0, rich=10)
    bank.down = True
    saga = await bank.start()
    await bank.happened(TransferRequested("t", "rich", "shop", 3))
    await until(lambda: any(tries > 2 for _, tries, _ in saga.saga_status().retrying))
    assert "no live instance" in saga.saga_status().retrying[0][2]

    async def told() -> bool:
        outbox = (await bank.admin().status()).outbox
        return outbox.commands == 1 and "no live instance" in outbox.reason and outbox.since > 0

    await until(told)  # to whoever looks into the view store

    async def concerned() -> bool:
        return any("1 commands wait, such as" in one for one in await saga.concerns())

    await until(concerned)
    bank.down = False
    bank.answers_lost = 1  # carried out, but the answer did not arrive
    await until(bank.idle)
    assert (await bank.balance("rich"), await bank.balance("shop")) == (7, 3)
    keys = [key for _, key in bank.sent]
    assert (len(keys), len(set(keys))) == (3, 2)
    assert (await bank.admin().status()).outbox.commands == 0


async def test_a_paused_saga_sends_nothing(bank: Bank) -> None:
    """Commands that wait are not tried while it is paused, and act once when it is resumed."""
    await bank.open(shop=0, rich=10)
    bank.down = True
    saga = await bank.start()
    await bank.happened(TransferRequested("t", "rich", "shop", 3))
    await until(lambda: saga.saga_status().retrying)
    await bank.admin().pause()
    await until(lambda: not saga.claims.held and not saga.saga_status().waiting)
    bank.down = False
    assert saga.saga_status().in_flight == 0
    assert (await bank.admin().status()).outbox.commands == 1
    assert not bank.sent
    await bank.admin().resume()
    await until(bank.idle)
    assert (await bank.balance("rich"), await bank.balance("shop")) == (7, 3)


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError(), KeyboardInterrupt()])
async def test_whatever_a_command_bus_raises(bank: Bank, error: BaseException) -> None:
    """What ends tasks and programs ends no sending: the command is sent again."""
    await bank.open(shop=0, rich=10)
    bank.undecided = error
    saga = await bank.start()
    await bank.happened(TransferRequested("t", "rich", "shop", 3))
    await until(lambda: any(tries > 2 for _, tries, _ in saga.saga_status().retrying))
    bank.undecided = None
    await until(bank.idle)
    assert await bank.balance("shop") == 3


async def test_crash_between_commit_and_sending(bank: Bank) -> None:
    """What was decided but not sent is sent by whoever takes over, under the same key."""
    await bank.open(shop=0, rich=10)
    bank.down = True
    first = await bank.start("one")
    await bank.happened(TransferRequested("t", "rich", "shop", 3))

    async def decided() -> bool:
        return await bank.stores.views.count(PendingCommand) == 1

    await until(decided)
    await first.stop()
    assert bank.sent == []
    bank.down = False
    await bank.start("two")
    await until(bank.idle)
    assert (await bank.balance("rich"), await bank.balance("shop")) == (7, 3)


async def test_takeover_of_a_saga_whose_owner_died(bank: Bank) -> None:
    """The segments of a dead process are taken after its lease, with what it had not sent."""
    await bank.open(shop=0, rich=10)
    bank.down = True
    first = await bank.start("one")
    await bank.happened(TransferRequested("t", "rich", "shop", 3))
    await until(lambda: bool(first.saga_status().retrying))
    for task in first._tasks:  # as if killed
        task.cancel()
    await asyncio.gather(*first._tasks, return_exceptions=True)
    await first.applier.close()
    bank.down = False
    second = await bank.start("two")
    assert not second.claims.held
    bank.stores.clock.skip(10)
    await until(bank.idle)
    assert (await bank.balance("rich"), await bank.balance("shop")) == (7, 3)


async def test_deadline_fires_once_at_its_time(bank: Bank) -> None:
    """A deadline fires when its time has come, not before, and not again."""
    await bank.open(alarm=0, rich=10)
    bank.down = True
    saga = await bank.start()
    await bank.happened(TransferRequested("t", "rich", "shop", 3))
    await until(lambda: saga.saga_status().due_s is not None)
    bank.stores.clock.skip(299)
    saga.wake()
    await until(lambda: bool(saga.saga_status().retrying))
    assert saga.saga_status().waiting == 1
    bank.stores.clock.skip(2)
    saga.wake()
    await until(lambda: saga.saga_status().waiting == 2)
    assert saga.saga_status().due_s is None
    bank.stores.clock.skip(1000)
    saga.wake()
    bank.down = False
    await until(lambda: saga.saga_status().waiting == 0)
    assert await bank.balance("alarm") == 1


async def test_deadline_that_passed_while_nobody_ran_fires_after_the_start(bank: Bank) -> None:
    """Deadlines survive restarts."""
    await bank.open(alarm=0, rich=10)
    bank.down = True
    first = await bank.start()
    await bank.happened(TransferRequested("t", "rich", "alarm", 3))
    await until(lambda: first.saga_status().due_s is not None)
    await first.stop()
    bank.stores.clock.skip(1000)
    second = await bank.start("two")
    await until(lambda: second.saga_status().waiting == 2)
    bank.down = False
    await until(lambda: second.saga_status().waiting == 0)
    assert [type(command) for command, _ in bank.sent[:2]] == [Withdraw, Credit]


async def test_commands_keep_the_conversation(bank: Bank) -> None:
    """A command's events belong to the conversation of the event that led to it."""
    await bank.open(shop=0, rich=10)
    await bank.start()
    await bank.happened(TransferRequested("t", "rich", "shop", 3))
    await until(bank.idle)
    found = {}
    async for page in bank.stores.store.read():
        for event in page.events:
            found[event.type] = decode_metadata(event.metadata)
    request, withdrawn = found["TransferRequested"], found["Withdrawn"]
    assert withdrawn.correlation_id == request.correlation_id
    assert found["Credited"].correlation_id == request.correlation_id
    assert current() is None


async def test_events_without_a_saga_are_ignored(bank: Bank) -> None:
    """An empty key, and an event that neither finds nor starts a saga, have no effect."""
    await bank.open(shop=0, rich=10)
    saga = await bank.start()
    await bank.happened(Poked(None))
    await bank.happened(Poked("unknown"))
    await bank.bus.send(Withdraw("rich", 1, "no transfer"))
    await bank.happened(TransferRequested("t", "rich", "shop", 3))
    await until(bank.idle)
    assert (await saga.status()).parked == 0
    assert await bank.balance("shop") == 3


async def test_a_failing_saga_is_parked_alone_and_retried(bank: Bank) -> None:
    """The events of a saga whose handler raises wait in order; other sagas go on."""
    await bank.open(shop=0, rich=10)
    bank.down = True
    saga = await bank.start()
    await bank.happened(TransferRequested("bad", "rich", "shop", 3))
    await until(lambda: saga.saga_status().waiting == 1)
    poked = await bank.happened(Poked("bad"))

    async def parked() -> bool:
        return (await bank.admin().status()).dead_letters == 1

    await until(parked)
    bank.down = False
    await bank.happened(TransferRequested("good", "rich", "shop", 4))

    async def both() -> bool:  # the withdrawal of the bad one is parked behind its failure
        return (await bank.admin().status()).dead_letters == 2 and await bank.balance("shop") == 4

    await until(both)
    letters = [letter async for letter in bank.admin().letters("bad")]
    assert [letter.type for letter in letters] == ["Poked", "Withdrawn"]
    with pytest.raises(EventParked, match="'bad'"):  # who waits for the saga is told
        await saga.wait_for(poked, timeout_s=30)
    assert await bank.admin().drop("bad", letter=letters[0].id) == 1
    assert (await bank.admin().retry("bad")).handled == 1
    await until(bank.idle)
    assert await bank.balance("shop") == 7


async def test_refusal_without_handler_is_parked_and_can_be_sent_again(bank: Bank) -> None:
    """A refused command that nothing handles is a dead letter; a retry sends it again."""
    await bank.open(rich=10)
    saga = await bank.start()
    bank.down = True
    await bank.happened(TransferRequested("t", "rich", "shop", 3))
    await until(lambda: saga.saga_status().waiting == 1)
    bank.stores.clock.skip(
        1000
    )  # the deadline credits an account that does not exist, after the saga's end
    saga.wake()
    await until(lambda: saga.saga_status().waiting == 2)
    await bank.stores.views.ensure([SagaState])
    async with bank.stores.views.transaction() as transaction:  # somebody removed the saga
        await transaction.delete(SagaState, ["MoneyTransfer/t"])
    bank.down = False

    async def parked() -> bool:
        return (await bank.admin().status()).dead_letters == 1

    await until(parked)
    letters = [letter async for letter in bank.admin().letters("t#commands")]
    assert [(x.kind, x.type, x.code) for x in letters] == [
        ("command", "Credit", "aggregate-not-found")
    ]
    await bank.open(alarm=0)
    assert (await bank.admin().retry("t#commands")).handled == 1

    async def credited() -> bool:
        return await bank.balance("alarm") == 1

    await until(credited)


async def test_two_processes_share_the_sagas(bank: Bank) -> None:
    """Sagas divide by id over processes; each transfer settles once."""
    await bank.open(shop=0, rich=1000)
    first, second = await bank.start("one"), await bank.start("two")
    await until(lambda: (len(first.claims.held), len(second.claims.held)) == (2, 2))
    for n in range(100):
        await bank.happened(TransferRequested(f"t{n}", "rich", "shop", 3))
    await until(bank.idle)
    assert (await bank.balance("rich"), await bank.balance("shop")) == (700, 300)


NO_DECISIONS = [
    UnknownMessage(name="Credit"),
    MalformedMessage(name="command 'Credit'", reason="an older version"),
    Forbidden(action="Credit"),
    RemoteError(source="accounts", remote_status=404, detail="no such page"),
]


@pytest.mark.parametrize("error", NO_DECISIONS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("target", ["shop", "nobody"])
async def test_only_a_decision_ends_a_step(bank: Bank, error: HeadwaterError, target: str) -> None:
    """Answers that no handler gave are waited out: neither a deposit nor a compensation is lost."""
    await bank.open(shop=0, rich=10)
    bank.undecided = error
    saga = await bank.start()
    await bank.happened(TransferRequested("t", "rich", target, 3))
    await until(lambda: any(tries > 2 for _, tries, _ in saga.saga_status().retrying))
    assert str(error) in saga.saga_status().retrying[0][2]
    bank.undecided = None
    await until(bank.idle)
    left = {"shop": (7, 3), "nobody": (10, 0)}[target]
    assert (await bank.balance("rich"), await bank.balance("shop")) == left
    assert (await saga.status()).parked == 0


async def test_a_key_of_another_command_is_a_letter_of_the_saga(bank: Bank) -> None:
    """What can never be delivered is shown, and the saga does not take it for a refusal."""
    await bank.open(shop=0, rich=10)
    bank.undecided = IdempotencyKeyReused(key="theirs")
    await bank.start()
    await bank.happened(TransferRequested("t", "rich", "shop", 3))

    async def parked() -> bool:
        return (await bank.admin().status()).dead_letters == 1

    await until(parked)
    letters = [letter async for letter in bank.admin().letters("t#commands")]
    assert [(x.kind, x.type, x.code) for x in letters] == [
        ("command", "Withdraw", "idempotency-key-reused")
    ]
    bank.undecided = None
    assert (await bank.admin().retry("t#commands")).handled == 1
    await until(bank.idle)
    assert (await bank.balance("rich"), await bank.balance("shop")) == (7, 3)


async def test_a_command_too_old_to_be_known_is_not_sent_again(bank: Bank) -> None:
    """Past the time for which its receiver knows its key a person decides, who may send it."""
    await bank.open(shop=0, rich=10)
    bank.down = True
    saga = await bank.start()
    await bank.happened(TransferRequested("t", "rich", "shop", 3))
    await until(lambda: any(tries > 2 for _, tries, _ in saga.saga_status().retrying))
    bank.stores.clock.skip(bank.settings.command_s + 1)
    saga.wake()

    async def parked() -> bool:
        return (await bank.admin().status()).dead_letters >= 1

    await until(parked)
    bank.down = False
    letters = [letter async for letter in bank.admin().letters("t#commands")]
    withdraw = next(letter for letter in letters if letter.type == "Withdraw")
    assert withdraw.code == "command-too-old"
    assert "last: " in withdraw.error
    assert "could act twice" in withdraw.error
    assert not any(isinstance(command, Withdraw) for command, _ in bank.sent)
    assert (await bank.admin().retry("t#commands")).handled >= 1

    await until(lambda: any(isinstance(command, Withdraw) for command, _ in bank.sent))
