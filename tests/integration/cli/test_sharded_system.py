"""A system with a service on two databases: several processes, one killed, and looked into."""

import asyncio
import json
import os
import re
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headwater.messages.headers import CONSISTENCY_TOKEN, IDEMPOTENCY_KEY
from headwater.service.engines import open_stream_store
from tests.integration.cli.conftest import (
    SAMPLE,
    Up,
    eventually,
    headwater,
    one_line_error,
    value_of,
)

COUNTERS = "abcdefgh"  # a and g are in shard 1, the others in shard 0
ROUNDS = 12


def sharded(file: Path) -> Path:
    """Let the service of a system store its events in two files."""
    with file.open("a", encoding="utf-8") as more:
        more.write('store = ["sqlite:{data}/left.db", "sqlite:{data}/right.db"]\n')
    return file


def increase(url: str, key: str) -> str | None:
    """Increase a counter by 1; return the consistency token, or None when it did not work."""
    headers = {"Content-Type": "application/json", IDEMPOTENCY_KEY: key}
    request = urllib.request.Request(url, b'{"by": 1}', headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            token: str = answer.headers[CONSISTENCY_TOKEN]
            return token
    except (OSError, urllib.error.HTTPError):
        return None


def read(url: str, token: str) -> int:
    """Return the value of a counter that the token has seen."""
    request = urllib.request.Request(url, headers={CONSISTENCY_TOKEN: token})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(json.loads(answer.read())["value"])


@pytest.fixture(scope="module")
def played(make_system) -> Iterator[Up]:
    """Return a running system whose counters are at `ROUNDS`; a process was killed meanwhile."""
    running = Up(sharded(make_system("command = 2, query = 1")))
    try:
        gateway = running.wait_ready()["gateway"]
        victim = running.processes()["counting-command-1"]["pid"]
        wrong: list[str] = []

        def play(counter: str) -> None:
            url = f"{gateway}/counters/{counter}"
            for number in range(1, ROUNDS + 1):
                key = f"{counter}-{number}"
                token = eventually("it is increased", lambda key=key: increase(url, key))
                found = read(url, token)
                if found != number:
                    wrong.append(f"{key} led to {found}")
                if counter == "a" and number == 3:
                    os.kill(victim, signal.SIGKILL)

        players = [threading.Thread(target=play, args=(counter,)) for counter in COUNTERS]
        for player in players:
            player.start()
        for player in players:
            player.join()
        assert wrong == []
        yield running
    finally:
        running.clean_up()


def events(played: Up, *flags: str) -> list[dict[str, Any]]:
    """Return what `headwater events --json` shows."""
    result = headwater("events", "--json", *flags, cwd=played.folder)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_event_is_there_once(played):
    """Whatever died, each command was carried out once, and each stream is in one shard."""
    found = events(played, "--limit", "1000")
    assert len(found) == len(COUNTERS) * ROUNDS
    logs = {event["stream"]: event["log"] for event in found}
    assert set(logs.values()) == {"counting", "counting/1"}
    assert {(event["stream"], event["log"]) for event in found} == set(logs.items())
    for log in ("counting", "counting/1"):
        positions = [event["position"] for event in found if event["log"] == log]
        assert positions == list(range(1, len(positions) + 1))
    for counter in COUNTERS:
        versions = [e["version"] for e in found if e["stream"] == f"Counter/{counter}"]
        assert versions == list(range(1, ROUNDS + 1))


def test_lines_name_the_log(played):
    """For people, each line begins with the log that the position is in; the last come last."""
    shown = headwater("events", "--limit", "1000", cwd=played.folder).stdout.splitlines()
    assert {line.split()[0] for line in shown} == {"counting", "counting/1"}
    times = [line.split()[2] for line in shown]
    assert times == sorted(times)


def test_a_stream_is_read_from_its_shard(played):
    """One stream has versions of its own, so it can be read from one of them on."""
    found = events(played, "--stream", "Counter/a", "--after", "10")
    assert [(event["log"], event["version"]) for event in found] == [
        ("counting/1", 11),
        ("counting/1", 12),
    ]


def test_a_position_needs_its_database(played):
    """Without a stream, a position is only one in a database that is named."""
    error = one_line_error(headwater("events", "--after", "3", cwd=played.folder), code=2)
    assert "spread over 2" in error
    assert "--store" in error
    right = f"sqlite:{played.folder / '.headwater' / 'right.db'}"
    found = events(played, "--store", right, "--after", "3")
    assert found[0]["position"] == 4
    assert {event["stream"] for event in found} == {"Counter/a", "Counter/g"}


def test_state_now_and_in_the_past(played):
    """An aggregate is replayed from its shard, a view from all of them."""

    def state(name: str, *flags: str) -> dict[str, Any]:
        result = headwater("state", name, *flags, cwd=played.folder)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    for counter, shard in (("a", 1), ("b", 0)):
        now = state(f"Counter/{counter}")
        assert (now["version"], now["shard"]) == (ROUNDS, shard)
        assert now["state"]["value"] == ROUNDS
        then = state(f"Counter/{counter}", "--at-version", "5")
        assert then["state"]["value"] == 5
        position = str(then["position"])
        assert state(f"Counter/{counter}", "--at-position", position)["state"]["value"] == 5
        assert state(f"Counter/{counter}", "--at-time", then["time"])["state"]["value"] == 5
        view = state(f"CounterView/{counter}")
        assert view["state"]["value"] == ROUNDS
        assert sum(view["position"]) == len(COUNTERS) * ROUNDS
        assert state(f"CounterView/{counter}", "--at-time", then["time"])["state"]["value"] == 5
    refused = headwater("state", "CounterView/a", "--at-position", "3", cwd=played.folder)
    assert "go by time" in one_line_error(refused, code=2)


def test_processors_are_shown_and_replayed(played):
    """Positions and lag are sums over the shards; each shard has a relay."""

    def caught_up() -> str:
        shown = headwater("processors", cwd=played.folder).stdout
        total = len(COUNTERS) * ROUNDS
        rows = re.findall(rf"{total} of {total} +│ +0 ", shown)
        return shown if len(rows) == 2 else ""

    shown = eventually("both segments are at the head", caught_up)
    assert "relay-counting " in shown
    assert "relay-counting/1 " in shown
    replay = ("processors", "replay", "counters")
    refused = headwater(*replay, "--from-position", "3", cwd=played.folder)
    assert "go by time, or from the start" in one_line_error(refused, code=2)
    replayed = headwater(*replay, "--from-start", cwd=played.folder)
    assert "counters: replayed" in replayed.stdout + replayed.stderr
    gateway = played.status()["gateway"]
    for counter in COUNTERS:
        url = f"{gateway}/counters/{counter}"
        eventually("the view is there", lambda url=url: value_of(url) == ROUNDS)


def test_a_shard_moves_to_another_database(make_system, up):
    """A shard is copied, mark and all, takes the place of the old one, and nobody notices."""
    file = sharded(make_system())
    running = up(file)
    gateway = running.wait_ready()["gateway"]
    before = {
        counter: eventually("it works", lambda c=counter: increase(f"{gateway}/counters/{c}", c))
        for counter in COUNTERS
    }
    assert running.stop(signal.SIGTERM) == 0
    old, new = (f"sqlite:{file.parent}/.headwater/{name}.db" for name in ("right", "moved"))
    for flags in ([], ["--check"]):
        result = headwater("copy-store", "--from", old, "--to", new, *flags)
        assert result.returncode == 0, result.stderr
    file.write_text(file.read_text(encoding="utf-8").replace("/right.db", "/moved.db"))
    running = up(file)
    gateway = running.wait_ready()["gateway"]
    for counter, token in before.items():
        url = f"{gateway}/counters/{counter}"
        assert read(url, token) == 1
        key = f"more-{counter}"  # a key is one command's
        assert read(url, eventually("it works", lambda u=url, k=key: increase(u, k))) == 2


def test_an_exchanged_list_is_one_clear_error(tmp_path):
    """`headwater run` ends at once, and says which database is at fault and what to do."""
    urls = [f"sqlite:{tmp_path / name}.db" for name in ("left", "right")]

    async def make() -> None:
        await (await open_stream_store(urls)).close()

    asyncio.run(make())
    store = ",".join(reversed(urls))
    result = headwater("run", "counting:service", "--set", f"store={store}", cwd=SAMPLE)
    error = one_line_error(result, code=2)
    assert f"{urls[1]!r}: it is shard 1 of 2, expected shard 0 of 2: give the URLs" in error
