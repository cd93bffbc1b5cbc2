"""One outcome per key, when two processes are sent the same at once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headwater.testing.history import AggregateRules, Done, History, check_store
from headwater.testing.history import Send as SendCall
from tests.integration.modelling.hot import Handle, Order, OtherProcess, Sent
from tests.postgres_server import POSTGRES
from tests.unit.modelling.ledger import Account, Deposit, Ensure

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
async def test_pairs(url: str, other: OtherProcess, tmp_path: Path, *, one_account: bool) -> None:
    """Both are told the same of a withdrawal of all there is: 200 pairs, in either order."""
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    history = History(here)
    handle = await Handle.open(url, history, lock_timeout_s=30.0)
    other.ask(Order(open=url, calls=str(there), lock_timeout_s=30.0))
    accounts = ["hot" if one_account else f"a{n}" for n in range(PAIRS)]
    await asyncio.gather(*(handle.bus.send(Ensure(id)) for id in set(accounts)))
    if not one_account:
        await asyncio.gather(*(handle.bus.send(Deposit(id, 100)) for id in accounts))
    amounts = [-100] * PAIRS if not one_account else [10, -10] * (PAIRS // 2)
    pairs = list(zip(accounts, amounts, strict=True))
    sent = [Sent(f"k{n}", account, amount) for n, (account, amount) in enumerate(pairs)]
    for start in range(0, PAIRS, 20):
        tasks: list[asyncio.Task[None]] = []
        for each in sent[start : start + 20]:
            other.tell(Order(send=Sent(each.key, each.account, each.amount)))
            tasks.append(asyncio.create_task(handle.carry_out(each)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
    await asyncio.to_thread(other.ask, Order(settle=True))
    history.close()
    recorded = History.load(here, there)
    verdict = await check_store(recorded, handle.store, rules=[AggregateRules(Account)])
    assert not verdict.violations, verdict
    told: dict[str, list[Any]] = {each.key: [] for each in sent}
    for call in recorded:
        if isinstance(call.request, SendCall) and call.request.key in told:
            told[call.request.key].append(call.outcome)
    for outcomes in told.values():
        assert len(outcomes) == 2
        done = [outcome for outcome in outcomes if isinstance(outcome, Done)]
        if not one_account:  # else a withdrawal may have been before its deposit, in one of them
            assert len(done) == 2, outcomes
        if len(done) == 2:
            assert len({outcome.version for outcome in done}) == 1
            assert sorted(outcome.duplicate for outcome in done) == [False, True]
    await handle.close()
