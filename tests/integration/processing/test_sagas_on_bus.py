"""Sagas that follow the bus: the store of the accounts and the saga meet only there."""

from headwater.eventbus import BusEvent
from headwater.eventstore import NewEvent, StreamWrite
from headwater.messages import ConsistencyToken, new_metadata
from headwater.processing import BusSource, Relay, SagaProcessor
from headwater.processing.sagas.views import PendingCommand, SagaState
from headwater.views.memory import MemoryViewStore
from tests.integration.processing.bank import (
    MoneyTransfer,
    Open,
    TransferRequested,
    command_bus,
)
from tests.integration.processing.conftest import QUICK, Stores, publish_again, until


async def test_transfers_settle_once_over_the_bus(stores: Stores) -> None:
    """Two processes share the sagas, every event is redelivered, each transfer settles once."""
    bus, repository = command_bus(stores.store)
    relay = Relay(
        stores.store,
        stores.bus,
        name="bank",
        epoch=stores.store.epoch,
        views=stores.views,
        owner="relay",
        settings=QUICK,
    )
    await relay.start()

    async def start(owner: str) -> SagaProcessor:
        saga = SagaProcessor(
            MoneyTransfer,
            source=BusSource(stores.bus),
            views=stores.views,
            owner=owner,
            commands=bus,
            settings=QUICK,
        )
        await stores.start(saga)
        return saga

    first, second = await start("one"), None
    await bus.send(Open("shop"))
    await bus.send(Open("rich", 1000))
    for number in range(60):
        new = NewEvent.of(TransferRequested(f"t{number}", "rich", "shop", 3), new_metadata())
        await stores.store.append([StreamWrite(f"Transfer/{number}", [new])])
        if number == 20:
            second = await start("two")
            await until(lambda: len(first.claims.held) == 2)
        if number == 40:
            await first.stop()
    await publish_again(stores.store, stores.bus, "bank")

    async def settled() -> bool:
        left = [await stores.views.count(kind) for kind in (SagaState, PendingCommand)]
        return left == [0, 0] and (await repository.state("shop")).state.balance >= 180

    await until(settled)
    assert second is not None
    head = await stores.store.head()
    await second.wait_for(ConsistencyToken.at("bank", stores.store.epoch, head), timeout_s=10)

    async def joined() -> bool:
        return [len(group.segments) for group in (await second.status()).groups] == [4]

    await until(joined)
    status = await second.status()
    assert await stores.store.head() == head
    assert (await repository.state("shop")).state.balance == 180
    assert (await repository.state("rich")).state.balance == 820
    assert (status.parked, status.failure) == (0, "")
    await relay.stop()
    await repository.close()


async def test_sagas_of_one_name_in_two_services(stores: Stores) -> None:
    """What two services' sagas of one name decide on one event is two commands, not one twice."""
    bus, repository = command_bus(stores.store)
    await bus.send(Open("rich", 10))
    await bus.send(Open("shop"))
    for service in ("billing", "shipping"):
        saga = SagaProcessor(
            MoneyTransfer,
            source=BusSource(stores.bus),
            views=MemoryViewStore(),
            owner=service,
            commands=bus,
            settings=QUICK,
            service=service,
        )
        await stores.start(saga)
    new = NewEvent.of(TransferRequested("t", "rich", "shop", 3), new_metadata())
    await stores.bus.publish(
        [
            BusEvent(
                source="transfers",
                epoch="e",
                position=1,
                stream="Transfer/t",
                version=1,
                type=new.type,
                type_version=new.type_version,
                time=0,
                tags=new.tags,
                data=new.data,
                metadata=new.metadata,
            )
        ]
    )

    async def withdrawn() -> bool:
        return (await repository.state("rich")).state.balance == 4

    await until(withdrawn)
    await repository.close()
