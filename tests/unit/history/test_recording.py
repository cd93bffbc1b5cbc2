"""Recording calls in memory and in files, by one process or several, and putting them together."""

import asyncio
import itertools
from pathlib import Path

import msgspec
import pytest

from headwater.errors import ConcurrencyConflict, InvalidInput
from headwater.eventstore import (
    AppendCondition,
    EventFilter,
    FilterItem,
    Idempotency,
    NewEvent,
    ShardedEventStore,
    StreamWrite,
)
from headwater.eventstore.memory import MemoryEventStore
from headwater.testing.eventstore_history import Work
from headwater.testing.history import (
    Append,
    Head,
    History,
    Lookup,
    Number,
    Read,
    RecordedStore,
    Refused,
    Stored,
    Version,
    check_history,
    check_store,
    refused_by,
)


def write(stream: str, data: bytes = b"1", expected: int | None = None) -> StreamWrite:
    return StreamWrite(stream, [NewEvent("A", 1, data, b"", ("t",))], expected)


async def test_what_a_store_is_asked_is_recorded() -> None:
    """Each call is there with what was asked and answered, and when, in order."""
    history, store = History(clock=itertools.count(1).__next__), MemoryEventStore()
    recorded = RecordedStore(history, store, session="s", source="accounts")
    await recorded.append([write("a", expected=0)], idempotency=Idempotency("k", "f"))
    with pytest.raises(ConcurrencyConflict):
        await recorded.append([write("a", expected=0)])
    assert await recorded.head() == 1
    assert await recorded.version("a") == 1
    assert await recorded.outcome("k") is not None
    assert [page.through async for page in recorded.read()] == [1]
    assert [page.through async for page in recorded.read_stream("a")] == [1]
    kinds = [type(call.request) for call in history]
    assert kinds == [Append, Append, Head, Version, Lookup, Read, Read]
    assert [(call.begin, call.end) for call in history] == [(n, n + 1) for n in range(1, 14, 2)]
    first, second = history.calls[:2]
    assert first.outcome == Stored(1, 1, store._log[0].time, (1,))
    fields = {"stream": "a", "expected": 0, "actual": 1}
    assert second.outcome == Refused("concurrency-conflict", "not stored", fields)
    assert {(call.session, call.source) for call in history} == {("s", "accounts")}
    assert str(first) == "s#1 append(1 to 'a', key 'k')"


async def test_following_is_recorded_page_by_page() -> None:
    """Each page of a follower is a call, which begins when it is waited for."""
    history, store = History(), MemoryEventStore()
    recorded = RecordedStore(history, store)
    pages = recorded.follow()
    waiting = asyncio.ensure_future(anext(pages))
    await asyncio.sleep(0)
    await recorded.append([write("a")])
    await recorded.append([write("b")])
    await waiting
    await pages.aclose()
    assert [call.request for call in history if isinstance(call.request, Read)] == [Read(live=True)]
    assert not check_history(history, store._log).violations


async def test_a_cancelled_call_is_open() -> None:
    """Of a call that is given up nobody knows whether it was carried out."""

    class Slow(MemoryEventStore):
        async def head(self) -> int:
            await asyncio.Event().wait()
            return 0

    history = History()
    asking = asyncio.ensure_future(RecordedStore(history, Slow()).head())
    await asyncio.sleep(0)
    assert history.calls[0].end is None
    asking.cancel()
    await asyncio.wait([asking])
    (call,) = history
    assert call.is_open
    assert call.end is not None


async def test_a_file_holds_what_memory_holds(tmp_path: Path) -> None:
    """Loaded from its file, a history is what was recorded."""
    path = tmp_path / "calls.jsonl"
    history, store = History(path), MemoryEventStore()
    await Work(RecordedStore(history, store), 1).run(cancelled=3)
    history.close()
    loaded = History.load(path)
    assert [msgspec.to_builtins(call) for call in loaded] == [
        msgspec.to_builtins(call) for call in history
    ]
    assert not check_history(loaded, store._log).violations


async def test_one_file_for_several(tmp_path: Path) -> None:
    """Several histories in one file, or in several, are one when they are loaded."""
    store = MemoryEventStore()
    for name, file in (("one", "a"), ("two", "a"), ("three", "b")):
        history = History(tmp_path / file, process=name)
        await RecordedStore(history, store).append([write("a", name.encode())])
        history.close()
    loaded = History.load(tmp_path / "a", tmp_path / "b")
    assert [(call.process, call.number) for call in loaded] == [
        ("one", 1),
        ("two", 1),
        ("three", 1),
    ]
    assert not check_history(loaded, store._log).violations


async def test_who_was_killed_leaves_open_calls(tmp_path: Path) -> None:
    """A call that had begun is in the file before it is sent; half a line at the end is nothing."""
    path = tmp_path / "calls.jsonl"
    history = History(path)
    history.call(Head())
    with history.call(Version("a")) as call:
        call.answer(Number(0))
    history.close()
    path.write_bytes(path.read_bytes()[:-5])
    loaded = History.load(path)
    assert [call.request for call in loaded] == [Head(), Version("a")]
    assert all(call.end is None for call in loaded)


async def test_what_is_no_history_is_refused(tmp_path: Path) -> None:
    """A line that cannot be read is named; nothing is guessed."""
    path = tmp_path / "calls.jsonl"
    history = History(path)
    with history.call(Head()) as call:
        call.answer(Number(0))
    history.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:-9] + b"\n" + lines[2])
    with pytest.raises(InvalidInput, match=r"calls\.jsonl, line 2 is no part of a history"):
        History.load(path)
    path.write_bytes(lines[1])
    with pytest.raises(InvalidInput, match="line 1"):
        History.load(path)


def on_another_machine(path: Path, *, ahead_s: float) -> None:
    """Let a file be written on a machine whose clocks both differ."""
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    (kind, process, _, monotonic, wall), *rest = lines
    shift = 5_000_000_000
    moved = [[kind, process, "other boot", monotonic + shift, wall + int(ahead_s * 1e9)]]
    for line in rest:
        place = 5 if line[0] == "begin" else 3
        moved.append([*line[:place], line[place] + shift, *line[place + 1 :]])
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in moved))


async def test_clocks_of_several_machines(tmp_path: Path) -> None:
    """They are aligned by the wall clock within an error that must be stated, and is allowed for.

    Within a machine the order of times counts; the error only widens it.
    """
    store = MemoryEventStore()
    for name in ("one", "two"):
        history = History(tmp_path / name)
        await RecordedStore(history, store).append([write("a", name.encode())])
        history.close()
    paths = (tmp_path / "one", tmp_path / "two")
    on_another_machine(paths[1], ahead_s=-0.5)  # its wall clock goes behind
    with pytest.raises(InvalidInput, match="clock_error_s="):
        History.load(*paths)
    exact = check_history(History.load(*paths, clock_error_s=0.0), store._log)
    assert [violation.rule for violation in exact.violations] == ["real-time"]
    allowed = check_history(History.load(*paths, clock_error_s=1.0), store._log)
    assert not allowed.violations


async def test_several_sources_in_one_history() -> None:
    """Calls of several stores are told apart by their source, and judged by their own logs."""
    history = History()
    stores = {name: MemoryEventStore() for name in ("accounts", "transfers")}
    for name, store in stores.items():
        await RecordedStore(history, store, source=name).append([write("a", name.encode())])
    for name, store in stores.items():
        part = history.of(name)
        assert len(part) == 1
        assert not check_history(part, store._log).violations
    rules = {found.rule for found in check_history(history, stores["accounts"]._log).violations}
    assert "lost" in rules


@pytest.mark.parametrize("seed", range(10))
async def test_a_sharded_store(seed: int) -> None:
    """A store over several logs is judged log by log."""
    history = History()
    store = await ShardedEventStore.open([MemoryEventStore() for _ in range(3)])
    recorded = RecordedStore(history, store)
    for number in range(30):
        key = Idempotency(f"{number}")
        await recorded.append([write(f"s{number % 7}", b"%d" % number)], idempotency=key)
        await recorded.version(f"s{seed % 7}")
        await recorded.shards[number % 3].head()
    verdict = await check_store(history, store)
    assert not verdict.violations, verdict
    assert (verdict.calls, verdict.events) == (90, 30)
    history.calls[seed * 3].outcome = Stored(1, 1, 0, (99,))
    assert (await check_store(history, store)).violations


def test_problems_of_others() -> None:
    """What another server answered is an outcome: ours as it says, anybody else's as a guess."""
    ours = {"code": "concurrency-conflict", "outcome": "not stored", "fields": {"actual": 1}}
    assert refused_by(ours, 409) == Refused("concurrency-conflict", "not stored", {"actual": 1})
    domain = {"code": "insufficient-funds", "outcome": "not stored", "fields": {"balance": 1}}
    assert refused_by(domain, 422).rejection
    assert refused_by({"title": "no healthy upstream"}, 503) == Refused("503", "unknown")
    assert refused_by({}, 400) == Refused("400", "not stored")


async def test_a_verdict_is_short() -> None:
    """However much is wrong, a verdict says how much, and shows the first of it."""
    history, store = History(), MemoryEventStore()
    recorded = RecordedStore(history, store)
    for number in range(200):
        await recorded.append([write("a", b"%d" % number)])
    verdict = check_history(history, store._log[:100], limit=30)
    assert len(verdict.violations) == 30
    assert verdict.found >= 100
    lines = str(verdict).splitlines()
    assert lines[0] == f"history: 200 calls, 100 events, {verdict.found} violations"
    assert lines[-1].startswith("  and ")
    assert len(lines) < 30


@pytest.mark.timeout(60)
async def test_long_histories_take_no_longer_for_each_call() -> None:
    """Twenty thousand calls on one hot stream, with conditions on all before, are soon judged.

    If each call were compared with each event, this would take minutes.
    """
    history, store = History(), MemoryEventStore()
    recorded = RecordedStore(history, store)
    with pytest.raises(ConcurrencyConflict):
        await recorded.append([write("hot", expected=5)])
    calls = list(history.calls)
    history.calls.clear()
    for number in range(10_000):
        name = f"n{number}"
        event = NewEvent("A", 1, name.encode(), b"", (name, "all"))
        await store.append([StreamWrite("hot", [event])])
        filter = EventFilter((FilterItem(("A",), (name, "all")),))
        condition = AppendCondition(filter, 0)
        with history.call(_asked(event, condition)) as call:
            call.answer(Stored(number + 1, number + 1, store._log[-1].time, (number + 1,)))
        await recorded.version("hot")
    history.calls += calls
    verdict = check_history(history, store._log)
    assert verdict.found == 0
    assert verdict.calls == 20_001


def _asked(event: NewEvent, condition: AppendCondition) -> Append:
    from headwater.testing.history import Write, digest_of

    return Append((Write("hot", (digest_of(event),)),), condition=condition)
