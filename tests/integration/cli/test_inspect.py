"""Looking into what a system has stored, while it runs and after it has stopped."""

import json
import signal
import subprocess
from collections.abc import Iterator

import pytest

from headwater.cli.times import show_time
from headwater.eventbus import BusEvent
from headwater.processing import DeadLetter
from headwater.views.sqlite import SQLiteViewStore
from tests.integration.cli.conftest import (
    HEADWATER,
    Up,
    ask,
    eventually,
    headwater,
    one_line_error,
    value_of,
)

UNLUCKY = 13


@pytest.fixture(scope="module")
def played(make_system) -> Iterator[Up]:
    """Return a running system: counter a at 6 in three events, counter bad parked."""
    running = Up(make_system("command = 1, query = 1"))
    try:
        gateway = running.wait_ready()["gateway"]
        for by in (1, 2, 3):
            assert ask(f"{gateway}/counters/a", body={"by": by})[0] == 200
        for by in (1, UNLUCKY, 1):
            assert ask(f"{gateway}/counters/bad", body={"by": by})[0] == 200
        eventually("the view is there", lambda: value_of(f"{gateway}/counters/a") == 6)
        eventually("the sequence is parked", lambda: " parked " in letters(running))
        yield running
    finally:
        running.clean_up()


def letters(running: Up) -> str:
    """Return the table of dead letters."""
    return headwater("dead-letters", "list", cwd=running.folder).stdout


def lines(result: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    """Return the JSON lines of a command that succeeded."""
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_services_lists_who_is_registered(played):
    """The table has every instance with role, status and version, from the running system."""
    result = headwater("services", cwd=played.folder)
    rows = [row for row in result.stdout.splitlines() if "counting-" in row]
    assert len(rows) == 2
    assert all("UP" in row and "1.2" in row for row in rows)
    assert "command" in rows[0]
    assert "query" in rows[1]


def test_services_without_discovery_is_one_clear_error(tmp_path):
    """A registry that does not answer is named with its address."""
    url = "http://127.0.0.1:1"
    assert url in one_line_error(headwater("services", "--discovery", url, cwd=tmp_path), code=75)


def test_events_are_shown_in_order_newest_last(played):
    """Each event is one line with position, time, stream, version, type and payload."""
    shown = headwater("events", cwd=played.folder).stdout.splitlines()
    assert [int(line.split()[0]) for line in shown] == [1, 2, 3, 4, 5, 6]
    assert "Counter/a@1  Increased  " in shown[0]
    assert '{"counter_id":"a","by":1,"parity":"odd"}  parity:odd' in shown[0]


@pytest.mark.parametrize(
    ("flags", "positions"),
    [
        (["--stream", "Counter/a"], [1, 2, 3]),
        (["--stream", "Counter/bad", "--limit", "2"], [5, 6]),
        (["--tag", "parity:even"], [2]),
        (["--tag", "parity:odd", "--stream", "Counter/a"], [1, 3]),
        (["--type", "Increased", "--after", "4"], [5, 6]),
        (["--after", "1", "--limit", "2"], [2, 3]),
        (["--limit", "1"], [6]),
        (["--limit", "0"], []),
        (["--type", "Nothing"], []),
        (["--service", "counting", "--stream", "Counter/a", "--after", "2"], [3]),
    ],
)
def test_events_can_be_selected(played, flags, positions):
    """Events are selected by stream, type, tag, position and number."""
    found = lines(headwater("events", "--json", *flags, cwd=played.folder))
    assert [event["position"] for event in found] == positions
    assert all(event["service"] == "counting" for event in found)


def test_events_are_followed_as_they_come(make_system, up, tmp_path):
    """--follow shows what is stored from now on, by other processes, until it is interrupted."""
    running = up(make_system())
    counter = f"{running.wait_ready()['gateway']}/counters/a"
    output = tmp_path / "followed"
    assert ask(counter, body={"by": 1})[0] == 200
    with output.open("wb") as file:
        following = subprocess.Popen(
            [*HEADWATER, "events", "-f", "--json", "--stream", "Counter/a"],
            cwd=running.folder,
            stdout=file,
            stderr=subprocess.STDOUT,
        )

    def shown(count: int) -> bool:
        return output.read_text(encoding="utf-8").count("Counter/a") == count

    try:
        eventually("what was there is shown", lambda: shown(1))
        for number in (2, 3):
            assert ask(counter, body={"by": number})[0] == 200
            eventually("what came is shown", lambda number=number: shown(number), within_s=5)
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 130
    finally:
        following.kill()
        following.wait()
    assert "Traceback" not in output.read_text(encoding="utf-8")


def test_state_is_shown_now_and_at_any_point(played):
    """The state of an aggregate is replayed up to a version, a position or a time."""

    def state(*flags: str) -> dict[str, object]:
        result = headwater("state", "Counter/a", *flags, cwd=played.folder)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    now = state()
    assert (now["aggregate"], now["id"], now["version"]) == ("Counter", "a", 3)
    assert now["state"] == {"id": "a", "value": 6}
    assert state("--at-version", "1")["state"] == {"id": "a", "value": 1}
    assert state("--at-position", "2")["state"] == {"id": "a", "value": 3}
    second = lines(
        headwater("events", "--json", "--stream", "Counter/a", "--after", "1", cwd=played.folder)
    )[0]
    at = state("--at-time", str(second["time"]))
    assert (at["version"], at["time"]) == (2, second["time"])


def test_a_view_is_shown_now_and_at_any_point(played):
    """A view is what its projection makes of the events up to a position or a time."""

    def value(*flags: str) -> object:
        result = headwater("state", "CounterView/a", *flags, cwd=played.folder)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)["state"]["value"]

    assert value("--at-position", "2") == 3
    first = lines(headwater("events", "--json", "--stream", "Counter/a", cwd=played.folder))[0]
    assert value("--at-time", str(first["time"])) == 1
    refused = headwater("state", "CounterView/a", "--at-version", "1", cwd=played.folder)
    assert "is a view and has no versions" in one_line_error(refused, code=2)


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["Counter"], "expected Aggregate/id", 2),
        (["Countr/a"], "did you mean 'Counter'?", 2),
        (["CounterView/nobody", "--at-position", "2"], "CounterView 'nobody' does not", 1),
        (["CounterView/a", "--at-position", "5"], "fails on an event up to position 5", 2),
        (["Counter/nobody"], "Counter 'nobody' does not exist", 1),
        (["Counter/a", "--at-version", "99"], "Counter/a has 3 events so far", 2),
        (["Counter/a", "--at-version", "0"], "expected 1 or more", 2),
        (["Counter/a", "--at-time", "noon"], "expected an ISO 8601 time", 2),
        (["Counter/a", "--at-time", show_time(0)], "does not exist", 1),
        (["Counter/a", "--at-version", "1", "--at-position", "1"], "give only one of them", 2),
        (["Counter/a", "--service", "countin"], "did you mean 'counting'?", 2),
    ],
)
def test_a_state_that_cannot_be_shown_is_one_clear_error(played, arguments, words, code):
    """A wrong name, point in time or service is named with what would be right."""
    assert words in one_line_error(headwater("state", *arguments, cwd=played.folder), code=code)


def test_processors_are_shown_with_owner_and_lag(played):
    """Every segment has an owner, a position and a lag; dead letters are counted."""

    def caught_up() -> list[list[str]]:
        result = headwater("processors", cwd=played.folder)
        assert result.returncode == 0, result.stderr
        rows = [
            [cell.strip() for cell in line.strip("│").split("│")]
            for line in result.stdout.splitlines()
            if " of 2" in line
        ]
        done = all(row[4] == "counting-query-1" and row[6] == "0" for row in rows)
        return rows if done else []

    rows = eventually("the processor has caught up", caught_up)
    assert [row[3] for row in rows] == ["0 of 2", "1 of 2"]
    assert rows[0][:2] == ["counting", "counters"]


def test_a_projection_is_replayed_and_rebuilt_while_it_serves(played):
    """A replay and a rebuild end with the same views as before."""
    gateway = played.status()["gateway"]
    result = headwater("processors", "replay", "counters", "--from-start", cwd=played.folder)
    assert result.returncode == 0, result.stderr
    assert "counters: replayed" in result.stdout
    eventually("the view is back", lambda: value_of(f"{gateway}/counters/a") == 6)
    result = headwater("processors", "rebuild", "counting/counters", cwd=played.folder)
    assert result.returncode == 0, result.stderr
    assert "is in service" in result.stdout
    assert value_of(f"{gateway}/counters/a") == 6


def test_a_processor_is_split_and_merged_while_it_runs(played):
    """The instances that run take up the new segments, and go on with their work."""
    gateway = played.status()["gateway"]
    for count, before in ((5, 2), (2, 5)):
        flags = ("resize", "counters", "--segments", str(count))
        result = headwater("processors", *flags, cwd=played.folder)
        assert result.returncode == 0, result.stderr
        assert f"counters: {count} segments, {before} before" in result.stdout
        shown = headwater("processors", cwd=played.folder)
        assert f"{count - 1} of {count}" in shown.stdout
        assert "nobody" not in shown.stdout
    result = headwater("processors", "replay", "counters", "--from-start", cwd=played.folder)
    assert result.returncode == 0, result.stderr
    eventually("it works on", lambda: value_of(f"{gateway}/counters/a") == 6)


def test_the_bus_is_shown_and_read(played):
    """Each partition has its ends; events are read from an offset on, or the last ones."""

    def on_bus() -> list[dict]:
        found = []
        for partition in range(4):
            flags = ("read", "--json", "--partition", str(partition), "--limit", "100")
            result = headwater("bus", *flags, cwd=played.folder)
            assert result.returncode == 0, result.stderr
            found += [json.loads(line) for line in result.stdout.splitlines()]
        return found

    stored = headwater("events", "--json", "--after", "0", cwd=played.folder).stdout.splitlines()
    found = eventually("all are on the bus", lambda: (got := on_bus()) and len(got) >= 4 and got)
    assert {one["position"] for one in found} <= {json.loads(line)["position"] for line in stored}
    shown = headwater("bus", cwd=played.folder)
    assert shown.returncode == 0, shown.stderr
    assert "keeps what all have read for 2.592e+06 s" in shown.stdout
    one = found[-1]
    flags = ("--partition", str(one["partition"]), "--from", str(one["offset"]), "--limit", "1")
    [line] = headwater("bus", "read", *flags, cwd=played.folder).stdout.splitlines()
    assert line.split()[0] == str(one["offset"])
    refused = headwater("bus", "read", "--partition", "99", cwd=played.folder)
    assert "partition 99 does not exist" in one_line_error(refused, code=2)


def test_a_processor_is_paused_and_resumed_while_it_runs(played):
    """It rests until it is resumed, and is told with its reason."""
    result = headwater("processors", "pause", "counters", "--reason", "a look", cwd=played.folder)
    assert result.returncode == 0, result.stderr
    assert "counters is paused: nobody works on it" in result.stdout
    shown = headwater("processors", cwd=played.folder).stdout
    assert "counting/counters is paused since" in shown
    assert ": a look: let it go on with `headwater processors resume counting/counters`" in shown
    assert "nobody" not in shown
    result = headwater("processors", "resume", "counters", cwd=played.folder)
    assert result.stdout.strip() == "counters goes on"
    eventually(
        "it goes on",
        lambda: "counting-query-1" in headwater("processors", cwd=played.folder).stdout,
    )
    result = headwater("processors", "resume", "counters", cwd=played.folder)
    assert result.stdout.strip() == "counters was not paused"


def test_a_rebuild_is_shared_by_processes(played):
    """Several processes rebuild together, with as many segments as they are told."""
    flags = ("rebuild", "counters", "--processes", "3", "--segments", "6")
    result = headwater("processors", *flags, cwd=played.folder)
    assert result.returncode == 0, result.stderr
    assert "is in service" in result.stdout
    assert "5 of 6" in headwater("processors", cwd=played.folder).stdout
    result = headwater("processors", "rebuild", "counters", "--join", cwd=played.folder)
    assert result.returncode == 0, result.stderr
    flags = ("resize", "counters", "--segments", "2")  # as the other tests know it
    assert headwater("processors", *flags, cwd=played.folder).returncode == 0
    gateway = played.status()["gateway"]
    assert value_of(f"{gateway}/counters/a") == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay", "counters"], "give one of --from-start"),
        (["resize", "counters", "--segments", "0"], "can have 1 to 1024 segments, 0 were asked"),
        (["rebuild", "counters", "--processes", "0"], "--processes must be 1 or more, got 0"),
        (["replay", "counter", "--from-start"], "did you mean 'counters'?"),
        (["rebuild", "nothing"], "does not exist"),
        (["replay", "counters", "--from-time", "noon"], "expected an ISO 8601 time"),
    ],
)
def test_a_wrong_replay_is_one_clear_error(played, arguments, words):
    """Nothing is replayed by mistake."""
    assert words in one_line_error(headwater("processors", *arguments, cwd=played.folder), code=2)


def test_dead_letters_are_listed_shown_retried_and_dropped(played):
    """A parked sequence can be looked at, tried again, and given up; then it goes on."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return headwater("dead-letters", *arguments, cwd=played.folder)

    gateway = played.status()["gateway"]
    eventually("it is parked", lambda: " parked " in letters(played))
    row = next(line for line in letters(played).splitlines() if "Counter/bad" in line)
    assert "ValueError: unlucky" in row
    parked = lines(call("show", "counters", "Counter/bad"))
    assert [letter["event"]["data"]["by"] for letter in parked] == [UNLUCKY, 1]
    assert [letter["state"] for letter in parked] == ["parked", "behind"]
    assert "in increased\n" in str(parked[0]["traceback"])
    listed = json.loads(call("list", "--json").stdout)
    assert [letter["id"] for letter in listed] == [letter["id"] for letter in parked]
    retried = call("retry", "counters", "Counter/bad")
    assert retried.returncode == 1
    assert "Counter/bad: 0 handled, then Increased failed again" in retried.stdout
    first = str(parked[0]["id"])
    dropped = call("drop", "counters", "Counter/bad", "--letter", first)
    assert dropped.stdout == "Counter/bad: 1 dropped\n"
    assert "Counter/bad: 1 handled" in call("retry", "counters").stdout
    assert "no dead letters" in letters(played)
    assert value_of(f"{gateway}/counters/bad") == 2
    error = one_line_error(call("show", "counters", "Counter/bad"), code=2)
    assert "has no dead letters" in error


async def test_letters_of_a_processor_that_is_gone(make_system):
    """Letters of a class that was renamed or removed are shown, kept, and can be dropped."""
    folder = make_system().parent
    place = folder / ".headwater" / "counting"
    place.mkdir(parents=True)
    views = await SQLiteViewStore.open(place / "views.db")
    await views.ensure([DeadLetter])
    event = BusEvent("counting", "", 1, "Counter/a", 1, "Increased", 1, 1, (), b"{}", b"{}")
    letter = DeadLetter(
        *("former@1|Counter/a|1", "former@1", "former@1|Counter/a", "Counter/a"),
        type="Increased",
        error="ValueError: no",
        event=event,
    )
    async with views.transaction() as transaction:
        await transaction.save([letter])
    await views.close()

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return headwater("dead-letters", *arguments, cwd=folder)

    listed = call("list").stdout
    assert "former" in listed
    assert "has no processor 'former' any more" in " ".join(listed.split())
    retried = call("retry", "former")
    assert retried.returncode == 1
    assert "'Increased'" in retried.stdout
    assert call("drop", "former", "Counter/a").stdout == "Counter/a: 1 dropped\n"
    assert "no dead letters" in call("list").stdout


def test_nothing_stored_yet_is_one_clear_error(make_system):
    """Before the first start there is nothing to look into, and nothing is made by looking."""
    folder = make_system().parent
    for command in (["events"], ["processors"], ["dead-letters", "list"]):
        assert "start the system" in one_line_error(headwater(*command, cwd=folder), code=2)
    error = one_line_error(headwater("state", "Counter/a", cwd=folder), code=2)
    assert "does not exist: start the system first" in error
    assert not (folder / ".headwater").exists()


def test_an_unreadable_store_is_one_clear_error(tmp_path):
    """A file that is no database is named, and stays as it is."""
    file = tmp_path / "events.db"
    file.write_bytes(b"no database at all " * 500)
    error = one_line_error(headwater("events", "--store", file, cwd=tmp_path), code=2)
    assert str(file) in error
    assert file.read_bytes() == b"no database at all " * 500
