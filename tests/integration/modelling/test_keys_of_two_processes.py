"""One outcome per key, when two processes are sent the same at once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.modelling.hot import Handle, Order, OtherProcess, Sent
from tests.postgres_server import POSTGRES
from tests.unit.modelling.ledger import Deposit, Ensure

PAIRS = 200


@pytest.fixture(params=["sqlite", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "events.db")
    given: str = request.getfixturevalue("postgres_url")
    return given


@pytest.fixture
def other() -> Iterator[OtherProcess]:
    process = OtherProcess()
    yield process
    process.end()


@pytest.mark.parametrize("one_account", [True, False])
async def test_pairs(url: str, other: OtherProcess, *, one_account: bool) -> None:
    """Both are told the same of a withdrawal of all there is: 200 pairs, in either order."""
    handle = await Handle.open(url, lock_timeout_s=30.0)
    other.ask(Order(open=url, lock_timeout_s=30.0))
    accounts = ["hot" if one_account else f"a{n}" for n in range(PAIRS)]
    await asyncio.gather(*(handle.bus.send(Ensure(id)) for id in set(accounts)))
    if not one_account:
        await asyncio.gather(*(handle.bus.send(Deposit(id, 100)) for id in accounts))
    amounts = [-100] * PAIRS if not one_account else [10, -10] * (PAIRS // 2)
    pairs = list(zip(accounts, amounts, strict=True))
    here = [Sent(f"k{n}", account, amount) for n, (account, amount) in enumerate(pairs)]
    for start in range(0, PAIRS, 20):
        tasks: list[asyncio.Task[None]] = []
        for number in range(start, start + 20):
            sent = here[number]
            other.tell(Order(send=Sent(sent.key, sent.account, sent.amount)))
            tasks.append(asyncio.create_task(handle.carry_out(sent)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
    there = {sent.key: sent for sent in await asyncio.to_thread(other.ask, Order(settle=True))}
    stored = 0
    for sent in here:
        told = [*sent.told, *there[sent.key].told]
        assert len(told) == 2
        if not one_account:  # else a withdrawal may have been before its deposit, in one of them
            assert {each.what for each in told} == {"acknowledged"}, (sent, told)
        acknowledged = [each for each in told if each.what == "acknowledged"]
        if len(acknowledged) == 2:
            assert len({each.version for each in acknowledged}) == 1
            assert sorted(each.duplicate for each in acknowledged) == [False, True]
        stored += bool(acknowledged)
    assert await handle.store.head() == stored + (1 if one_account else 2 * PAIRS)
    await handle.close()
