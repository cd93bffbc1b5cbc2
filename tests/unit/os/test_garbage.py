"""The collector of this process, while something serves."""

import gc
import itertools
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from headwater._os.garbage import COLLECTOR, YOUNG_MAX


@pytest.fixture(autouse=True)
def ordinary() -> Iterator[None]:
    """Begin as Python does, and end as it was."""
    thresholds = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_what_was_there_is_left_alone() -> None:
    """It is not looked through while something serves; then it is again."""
    mine = [[] for _ in range(10)]  # type: ignore[var-annotated]
    with COLLECTOR.serving():
        assert not any(each is mine for each in gc.get_objects())
        assert gc.get_freeze_count() > 10
        assert gc.get_threshold() == (YOUNG_MAX, 10, 10)
    assert any(each is mine for each in gc.get_objects())
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_the_last_one_gives_it_back(order: tuple[int, ...]) -> None:
    """Several may serve at a time, and stop in any order."""
    stacks = [ExitStack() for _ in order]
    for stack in stacks:
        stack.enter_context(COLLECTOR.serving())
    for number in order:
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] == YOUNG_MAX
        stacks[number].close()
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold()[0] == 700


def test_what_others_want_stays() -> None:
    """Frozen before is frozen after, and who wants fewer collections, or none, gets them."""
    gc.freeze()
    for young in (0, YOUNG_MAX + 1):
        gc.set_threshold(young)
        with COLLECTOR.serving():
            assert gc.get_threshold()[0] == young
        assert gc.get_threshold()[0] == young
        assert gc.get_freeze_count() > 0
