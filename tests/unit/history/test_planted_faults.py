"""The checker finds each fault that is planted into a store, and none in an honest one."""

import itertools

import pytest

from headwater.eventstore import Idempotency, NewEvent, StreamWrite
from headwater.testing.eventstore_history import Work
from headwater.testing.history import History, RecordedStore, Verdict, check_history
from tests.unit.history.faults import FAULTS, AgainstTime, Honest

SEEDS = range(5)


async def verdict_on(fault: type[Honest], seed: int) -> Verdict:
    """Let callers work with a store, and compare what they were told with its log."""
    history, store = History(clock=itertools.count().__next__), fault()
    await Work(RecordedStore(history, store), seed).run(callers=store.callers)
    await store.close()
    return check_history(history, store._log)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_fault_is_found(fault: type[Honest], seed: int) -> None:
    """Whatever callers do meanwhile: a store that lies is found out, by the rule it breaks."""
    verdict = await verdict_on(fault, seed)
    assert fault.rules <= {violation.rule for violation in verdict.violations}, verdict


@pytest.mark.parametrize("seed", range(30))
async def test_an_honest_store_is_not_accused(seed: int) -> None:
    """Without a fault there is no violation."""
    verdict = await verdict_on(Honest, seed)
    assert not verdict.violations, verdict
    assert verdict.calls > 100
    assert verdict.events > 40


async def test_an_order_against_time_is_found() -> None:
    """What was acknowledged before something else was asked for comes before it."""
    history, store = History(clock=itertools.count().__next__), AgainstTime()
    recorded = RecordedStore(history, store)
    await recorded.append([StreamWrite("a", [NewEvent("A", 1, b"1", b"")])])
    await recorded.append([StreamWrite("b", [NewEvent("A", 1, b"2", b"")])])
    verdict = check_history(history, store._log)
    (violation,) = [found for found in verdict.violations if found.rule == "real-time"]
    assert violation.call is history.calls[1]
    assert violation.other is history.calls[0]


async def test_what_was_a_duplicate_before_is_one_afterwards() -> None:
    """After somebody was told that a key was stored, nobody is told to be the first."""
    history, store = History(clock=itertools.count().__next__), Honest()
    recorded = RecordedStore(history, store)
    for _ in range(2):
        await recorded.append([StreamWrite("a", [])], idempotency=Idempotency("k"))
    told = [call.outcome for call in history]
    assert not check_history(history, store._log).violations
    for call, outcome in zip(history, reversed(told), strict=True):
        call.outcome = outcome
    (violation,) = check_history(history, store._log).violations
    assert violation.rule == "key"
