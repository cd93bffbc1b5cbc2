"""Many deadlines are no more work, and no more memory, than those that are due."""

import tracemalloc
from datetime import timedelta

from headwater.dispatch import CommandBus
from headwater.messages import new_metadata
from headwater.processing import SagaProcessor, StoreSource
from headwater.processing.sagas.views import (
    SagaDeadline,
    SagaState,
    queued,
    saga_queue,
    segment_of_saga,
)
from tests.integration.processing.bank import MoneyTransfer, command_bus
from tests.integration.processing.conftest import QUICK, Stores, until

_DAY_S = timedelta(days=1).total_seconds()
_MANY = 10_000
_BYTES_EACH_MAX = 100
_NAME, _COUNT = "money-transfer", MoneyTransfer.saga_segments


def deadline(number: int, due: float, *, former: bool = False) -> SagaDeadline:
    """Return a row, of a saga that is over; ``former``: as an earlier release has queued it."""
    saga = f"t{number}"
    queue = saga_queue(_NAME, segment_of_saga(saga, _COUNT), _COUNT)
    return SagaDeadline(
        id=f"MoneyTransfer/{saga}/stuck",
        queue=queue if former else queued(queue, due),
        saga=saga,
        name="stuck",
        due=due,
        cause=new_metadata(),
    )


def processor(stores: Stores, bus: CommandBus) -> SagaProcessor:
    return SagaProcessor(
        MoneyTransfer,
        source=StoreSource(stores.store, "bank"),
        views=stores.views,
        owner="one",
        commands=bus,
        settings=QUICK,
    )


async def test_only_what_is_due_is_loaded(stores: Stores) -> None:
    """Of many deadlines those that are due run, also former ones, and the others take no memory."""
    bus, repository = command_bus(stores.store)
    now = await stores.views.now()
    await stores.views.ensure([SagaDeadline, SagaState])
    for start in range(0, _MANY, 1000):
        async with stores.views.transaction() as transaction:
            rows = [deadline(n, now + _DAY_S + n) for n in range(start, start + 1000)]
            await transaction.save(rows)
    async with stores.views.transaction() as transaction:
        await transaction.save([deadline(_MANY + n, now - n) for n in range(5)])
        await transaction.save([deadline(_MANY + 5 + n, now - n, former=True) for n in range(5)])
        await transaction.save([deadline(_MANY + 10, now + 2 * _DAY_S, former=True)])
    saga = processor(stores, bus)
    tracemalloc.start()
    await stores.start(saga)

    async def ran() -> bool:
        return await stores.views.count(SagaDeadline) == _MANY + 1

    await until(ran, timeout_s=60.0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < _MANY * _BYTES_EACH_MAX

    async def looks_ahead() -> bool:
        due_s = saga.saga_status().due_s
        return due_s is not None and _DAY_S - 600 < due_s <= _DAY_S

    await until(looks_ahead, timeout_s=60.0)
    stores.clock.skip(_DAY_S + 9.5)

    async def ten_more() -> bool:
        return await stores.views.count(SagaDeadline) <= _MANY - 9

    await until(ten_more, timeout_s=60.0)
    await saga.stop()
    assert await stores.views.count(SagaDeadline) > _MANY - 1000
    await repository.close()
