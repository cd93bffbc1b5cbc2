"""`headwater retag`, `headwater snapshots`, and states that JSON does not have."""

import asyncio
import json
from pathlib import Path

import pytest

from headwater.eventstore import EventStore, NewEvent, Snapshot, StreamWrite
from headwater.modelling.state import aggregate_type
from headwater.operations.loading import load_service
from headwater.service.engines import open_stream_store
from tests.integration.cli.conftest import SAMPLE, headwater, one_line_error

TOML = """\
[system]
name = "sample"
data = "{data}"
python_path = ["{sample}"]
[services.keeping]
app = "keeping:service"
instances = {{ all = 1 }}
[services.keeping.settings]
store = [{stores}]
"""


def event(what: str, version: int = 1, *tags: str) -> NewEvent:
    data = json.dumps({"box_id": "b", "what": what}).encode()
    return NewEvent("Kept", version, data, b'{"id":"1"}', tags)


class Kept:
    """A system whose service stored events with programs of yesterday."""

    def __init__(self, folder: Path, shards: int) -> None:
        self.folder = folder
        self.urls = [f"sqlite:{folder}/events{n}.db" for n in range(shards)]
        stores = ", ".join(f'"{url}"' for url in self.urls)
        text = TOML.format(data=folder / "data", sample=SAMPLE, stores=stores)
        (folder / "headwater.toml").write_text(text, encoding="utf-8")

    def put(self, stream: str, *events: NewEvent, snapshot: bytes = b"") -> None:
        async def work() -> None:
            store = await open_stream_store(tuple(self.urls))
            await store.append([StreamWrite(stream, events)])
            if snapshot:
                box = load_service("keeping:service", python_path=[SAMPLE]).aggregates[0]
                mark = aggregate_type(box).fingerprint
                await store.save_snapshot(Snapshot(stream, len(events), mark, snapshot))
            await store.close()

        asyncio.run(work())

    def tags(self) -> dict[str, list[tuple[str, ...]]]:
        async def read(log: EventStore) -> list[tuple[str, tuple[str, ...]]]:
            return [(e.stream, e.tags) async for page in log.read() for e in page.events]

        async def work() -> dict[str, list[tuple[str, ...]]]:
            store = await open_stream_store(tuple(self.urls))
            found: dict[str, list[tuple[str, ...]]] = {}
            for log in store.shards:
                for stream, tags in await read(log):
                    found.setdefault(stream, []).append(tags)
            await store.close()
            return found

        return asyncio.run(work())


@pytest.fixture(params=[1, 2], ids=["one database", "two databases"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    return Kept(tmp_path, request.param)


def fill(kept: Kept) -> None:
    kept.put("Box/a", event("Tea"), event("Milk", 2, "what:Milk"), event("x", 1, "old:1"))
    kept.put("Box/b", event("Tea"), NewEvent("Lost", 1, b"{}", b"{}", ("stays:1",)))


def test_retag_gives_old_events_the_tags_of_today(kept: Kept) -> None:
    """A check tells what would change, with exit code 1; then it is changed, once and for all."""
    fill(kept)
    before = kept.tags()
    checked = headwater("retag", "--check", cwd=kept.folder)
    assert checked.returncode == 1, checked.stderr
    assert "have other tags than their classes give" in checked.stdout
    assert "  1 of Lost, as its class is unknown" in checked.stdout.replace("left as they are:", "")
    assert kept.tags() == before
    done = headwater("retag", "--service", "keeping", cwd=kept.folder)
    assert done.returncode == 0, done.stderr
    assert "were given other tags" in done.stdout
    assert kept.tags() == {
        "Box/a": [("what:tea",), ("what:Milk",), ("what:x",)],
        "Box/b": [("what:tea",), ("stays:1",)],
    }
    again = headwater("retag", "--check", "--json", cwd=kept.folder)
    assert again.returncode == 0, again.stderr
    reports = [json.loads(line) for line in again.stdout.splitlines()]
    assert [report["changed"] for report in reports] == [{}] * len(kept.urls)
    assert sum(report["position"] for report in reports) == 5
    shown = headwater("events", "--tag", "what:tea", "--json", cwd=kept.folder)
    assert {json.loads(line)["stream"] for line in shown.stdout.splitlines()} == {"Box/a", "Box/b"}


def test_retag_tells_what_cannot_be_read(tmp_path: Path) -> None:
    """An event that cannot be read keeps its tags and is named; the exit code says so."""
    kept = Kept(tmp_path, 1)
    kept.put("Box/a", NewEvent("Kept", 1, b'{"box_id":"b"}', b"{}", ("a:1",)), event("Tea"))
    done = headwater("retag", cwd=kept.folder)
    assert done.returncode == 1
    assert "Box/a@1 at position 1: " in done.stdout
    assert "KeyError: 'what'" in done.stdout
    assert kept.tags() == {"Box/a": [("a:1",), ("what:tea",)]}
    assert headwater("retag", "--after", "1", cwd=kept.folder).returncode == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--after", "-1"], "expected 0 or more"),
        (["--service", "keepin"], "did you mean 'keeping'?"),
    ],
)
def test_a_wrong_retag_is_one_clear_error(tmp_path: Path, flags: list[str], words: str) -> None:
    """Nothing is retagged by mistake."""
    kept = Kept(tmp_path, 1)
    kept.put("Box/a", event("Tea"))
    assert words in one_line_error(headwater("retag", *flags, cwd=kept.folder), code=2)
    assert kept.tags() == {"Box/a": [()]}


def test_retag_counts_positions_per_database(tmp_path: Path) -> None:
    """In a spread store there is no one position to go on from."""
    kept = Kept(tmp_path, 2)
    fill(kept)
    error = one_line_error(headwater("retag", "--after", "1", cwd=kept.folder), code=2)
    assert "positions are counted per database" in error


def test_nothing_to_look_after(tmp_path: Path) -> None:
    """Before anything is stored there is one clear error, and nothing is made by looking."""
    kept = Kept(tmp_path, 1)
    for command in (["retag"], ["retag", "--service", "keeping"], ["snapshots", "drop", "Box"]):
        assert "start the system" in one_line_error(headwater(*command, cwd=kept.folder), code=2)
    assert not (kept.folder / "events0.db").exists()


def test_snapshots_are_checked_and_dropped(kept: Kept) -> None:
    """A snapshot that is not what the events lead to is found and dropped; the others stay."""
    kept.put("Box/a", event("Tea"), event("x"), snapshot=b'{"id":"a","kept":["tea","x"]}')
    kept.put("Box/b", event("Tea"), event("x"), snapshot=b'{"id":"b","kept":["TEA","x"]}')
    kept.put("Box/bb", event("Tea"), event("x"), snapshot=b'{"id":"bb","kept":["tea","x"]}')

    def snapshots(*arguments: str) -> tuple[int, str]:
        result = headwater("snapshots", *arguments, cwd=kept.folder)
        assert result.stderr == ""
        return result.returncode, result.stdout

    code, text = snapshots("check")
    assert code == 1
    assert "Box/b@2: different: kept is ['TEA', 'x'], the events lead to ['tea', 'x']\n" in text
    assert "keeping: Box/: 1 different, 2 same\n" in text
    assert "keeping: Shelf/: no snapshots\n" in text
    code, text = snapshots("check", "Box/bb", "--json")
    assert (code, json.loads(text)["verdict"]) == (0, "same")
    assert snapshots("drop", "Box/b") == (0, "Box/b: 1 dropped\n")
    assert snapshots("check", "Box") == (0, "keeping: Box/: 2 same\n")
    assert snapshots("drop", "Box", "--service", "keeping") == (0, "Box/: 2 dropped\n")
    assert snapshots("check", "Box/a") == (0, "keeping: Box/a: no snapshots\n")
    for wrong in ("Bax", "Box/", "Bax/1"):
        error = one_line_error(headwater("snapshots", "drop", wrong, cwd=kept.folder), code=2)
        assert "expected an aggregate" in error


def test_a_state_that_is_never_stored_is_shown(tmp_path: Path) -> None:
    """A state that JSON does not have is shown with keys and values as Python writes them."""
    kept = Kept(tmp_path, 1)
    kept.put("Shelf/s", event("Tea"), event("x"))
    shown = headwater("state", "Shelf/s", cwd=kept.folder)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["state"]["places"] == {"(0, 0)": ["tea"], "(1, 0)": ["x"]}
