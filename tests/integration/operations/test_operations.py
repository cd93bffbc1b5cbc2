"""What can be done with a system, as a program does it: typed answers, nothing printed."""

import ast
import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import headwater.operations
from headwater.errors import ConfigurationError
from headwater.operations import letters, processors, snapshots, state
from headwater.operations.copy import compare, copy
from headwater.operations.events import Selection, open_events
from headwater.operations.loading import load_service
from headwater.operations.retag import retag, services_with_events
from headwater.operations.stores import load_stores, settings_of
from headwater.operations.system import System, load_system
from headwater.service.runtime import Runtime

SAMPLE = Path(__file__).parents[1] / "cli" / "sample"
UNLUCKY = 13

TOML = f"""\
[system]
name = "sample"
python_path = ["{SAMPLE}"]
[services.counting]
app = "counting:service"
[services.counting.settings]
segments = 2
retry_attempts = 1
"""


async def until(condition: Callable[[], Any]) -> Any:
    """Return what a condition gives, once it is true."""
    for _ in range(6000):
        if found := await condition():
            return found
        await asyncio.sleep(0.01)
    raise TimeoutError


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    """Return a running system: counter a at 6 in three events, counter bad parked."""
    file = tmp_path / "headwater.toml"
    file.write_text(TOML)
    described = load_system(file)
    service = load_service("counting:service", python_path=[SAMPLE])
    increase = next(command for command in service.contract()[0])
    async with Runtime(service, described.settings("counting")) as running:
        for by in (1, 2, 3):
            await running.commands.send(increase(counter_id="a", by=by))
        for by in (1, UNLUCKY, 1):
            await running.commands.send(increase(counter_id="bad", by=by))
        await until(lambda: parked(file))
        yield described


async def parked(file: Path) -> bool:
    """Whether both letters are there, and all else is handled."""
    async with processors.open_admins(file, "") as opened:
        (found,) = [figures async for figures in processors.figures(opened)]
    return found.status.dead_letters == 2 and found.status.lag == 0


async def test_figures(system: System):
    """Each processor is told with its segments and letters."""
    async with processors.open_admins(system.file, "") as opened:
        (found,) = [figures async for figures in processors.figures(opened)]
        assert (found.service, found.status.name) == ("counting", "counters")
        assert [segment.index for segment in found.status.segments] == [0, 1]
        assert found.waiting_s == 0
        (relay,) = await processors.relayed(opened)
        assert (relay.service, relay.status.head) == ("counting", 6)


async def test_replay_and_resize(system: System):
    """Both begin at once, say whether somebody works on it, and are followed step by step."""
    async with processors.open_admins(system.file, "counting") as opened:
        entry = processors.one(opened, "counters")
        assert (await processors.replay(entry)).runs
        steps = [step async for step in processors.catching_up(entry)]
        assert steps[-1].done == steps[-1].total
        assert await processors.resize(entry, 3) == processors.Resized(before=2, owned=2)
        taken = [step async for step in processors.taking_up(entry, 3)]
        assert taken[-1] == processors.Progress(3, 3)


async def test_letters(system: System):
    """They are listed, retried and dropped by sequence; where none are, that is said."""
    async with processors.open_admins(system.file, "") as opened:
        (found,) = await letters.letters(opened)
        assert [*found.sequences()] == ["Counter/bad"]
        first, second = [one async for one in letters.letters_of(opened, "counters", "Counter/bad")]
        assert (first.error, second.state) == ("ValueError: unlucky", "behind")
        (again,) = [one async for one in letters.retry(opened, "counters", ["Counter/bad"])]
        assert again.result.handled == 0
        assert again.result.failed is not None
        assert await letters.drop(opened, "counters", "Counter/bad") == 2
        with pytest.raises(ConfigurationError, match="has no dead letters"):
            await letters.drop(opened, "counters", "Counter/bad")
        with pytest.raises(ConfigurationError, match="has no dead letters"):
            await letters.sequences_of(opened, "counters", "Counter/bad")


async def test_events(system: System):
    """Stored ones are selected, those that come are followed."""
    async with open_events(load_stores(system.file, "", "")) as logs:
        last = [one async for one in logs.stored(Selection(limit=2))]
        assert [(one.log, one.event.position) for one in last] == [("counting", 5), ("counting", 6)]
        after = Selection(stream="Counter/a", after=1)
        assert [one.event.version async for one in logs.stored(after)] == [2, 3]
        (coming,) = logs.coming(Selection())
        following = asyncio.ensure_future(anext(coming))
        service = load_service("counting:service")
        await service.commands.send(service.contract()[0][0](counter_id="a", by=4))
        assert [one.event.stream for one in await following] == ["Counter/a"]
        await coming.aclose()


async def test_state(system: System):
    """An aggregate and a view are told as they were; a version that is yet to come is refused."""
    urls = settings_of(system, "counting").stores
    subject = state.find_subject(system, "Counter", "")
    found = await state.state_at(urls, subject, "a", state.Point(version=2))
    assert isinstance(found, state.AggregateState)
    assert (found.version, found.position, found.state.value) == (2, 2, 3)
    with pytest.raises(ConfigurationError, match="has 3 events so far"):
        await state.state_at(urls, subject, "a", state.Point(version=4))
    view = state.find_subject(system, "CounterView", "counting")
    shown = await state.state_at(urls, view, "a", state.Point(position=1))
    assert isinstance(shown, state.ViewState)
    assert (shown.position, shown.state.value) == (1, 1)


async def test_copy_and_compare(system: System, tmp_path: Path):
    """A copy says what it did, and how much came meanwhile; then both are equal."""
    (source,) = settings_of(system, "counting").stores
    target = f"sqlite:{tmp_path / 'copy.db'}"
    told: list[tuple[int, int]] = []
    done = await copy(source, target, progress=lambda *at: told.append(at))
    assert (done.copied.position, done.left) == (6, 0)
    assert told[-1] == (6, 6)
    found = await compare(source, target, progress=lambda *_: None)
    assert (found.events, found.difference) == (6, "")


async def test_retag_and_snapshots(system: System):
    """Log by log, and aggregate by aggregate."""
    names = services_with_events(system)
    done = [
        one async for one in retag(system, names, check=True, progress=lambda _: lambda *_: None)
    ]
    assert [(one.log, one.found.position, one.found.changed) for one in done] == [
        ("counting", 6, {})
    ]
    (chosen,) = snapshots.choose(system, "Counter/a", "")
    assert [one async for one in snapshots.check(system, chosen)] == []
    assert await snapshots.drop(system, chosen) == 0


FILES = sorted(Path(headwater.operations.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nothing_is_printed(file: Path):
    """No file of the room knows the terminal."""
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute | ast.Name)
    }
    assert names.isdisjoint({"print", "stdout", "stderr", "input", "isatty"})
