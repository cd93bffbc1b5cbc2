"""What the how-to pages tell people to type works as typed, on the system that they talk about."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from headwater import Event
from headwater.eventstore import NewEvent, StoredEvent
from headwater.messages import new_id, new_metadata
from headwater.service.engines import open_event_store
from tests.consoles import ROOT, Typed, consoles_of
from tests.system.walkthrough import write_files

DOCUMENTED = Path(__file__).parent / "documented"
HEADWATER = [sys.executable, "-m", "headwater.cli"]
TOML = """\
[system]
name = "documented"
[processors]
attempts = 1
[services.accounts]
app = "accounts:service"
"""
BEGIN_US = 1_793_500_000_000_000  # 2026-11-01
FAILS = {"headwater dead-letters retry accounts Account/7": 1}  # nobody has corrected the cause
PAGES = [
    "docs/how-to/keep-aggregates-fast.md",
    "docs/how-to/look-into-the-past.md",
    "docs/how-to/rebuild-a-projection.md",
    "docs/how-to/recover-from-dead-letters.md",
    "docs/how-to/retag-events.md",
    "docs/how-to/scale-a-processor.md",
    "docs/how-to/upgrade-a-service.md",
]


def history() -> list[StoredEvent]:
    """Return what has happened: 4,720 withdrawals and measurements since the first of November."""
    from tests.system.documented.accounts import AccountOpened, Measured, MoneyWithdrawn

    happened: list[tuple[str, Event]] = [
        (f"Account/{id}", AccountOpened(id, f"{name}@example.org"))
        for id, name in (("7", "eve"), ("8", "bob"))
    ]
    happened += [("Account/7", MoneyWithdrawn("7", 10)) for _ in range(20)]
    happened += [("Meter/m-1", Measured("m-1", 1)) for _ in range(150)]
    happened += [("Account/8", MoneyWithdrawn("8", 1)) for _ in range(4_550)]
    versions: Counter[str] = Counter()
    found = []
    for position, (stream, event) in enumerate(happened, 1):
        versions[stream] += 1
        form = NewEvent.of(event, new_metadata())
        found.append(
            StoredEvent(
                position=position,
                stream=stream,
                version=versions[stream],
                type=form.type,
                type_version=form.type_version,
                time=BEGIN_US + position,
                tags=form.tags,
                data=form.data,
                metadata=form.metadata,
            )
        )
    return found


def check_printed(typed: Typed, output: str) -> None:
    """Check that a line printed what the page says, where … stands for anything."""
    for line in typed.printed:
        expected = ".*".join(re.escape(part.strip()) for part in line.split("…"))
        assert re.search(expected, output), f"{typed.line}\n{output}"


class Folder:
    """A folder of the documented system, to type commands in."""

    def __init__(self, path: Path, **environment: str) -> None:
        self.path = path
        self.environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment}

    def type(self, typed: Typed) -> str:
        """Run a line to its end, or, if it has none, until it works; return what it printed."""
        words = [*HEADWATER, *typed.words[1:]]
        if "--follow" in words or words[len(HEADWATER)] == "run":
            return self._begin(words)
        done = subprocess.run(
            words,
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == FAILS.get(typed.line, 0), f"{typed.line}\n{done.stderr}"
        check_printed(typed, done.stdout)
        return done.stdout

    def _begin(self, words: list[str]) -> str:
        with subprocess.Popen(
            words,
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        ) as process:
            assert process.stdout is not None
            seen = ""
            for line in process.stdout:
                seen += line
                if " ready " in line or "--follow" in words:
                    break
            process.terminate()
            seen += process.stdout.read()
        assert process.returncode in {0, -15}, seen
        return seen


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a system that has a history, filled views, and letters of account 7."""
    path = tmp_path_factory.mktemp("documented")
    shutil.copy(DOCUMENTED / "accounts.py", path)
    (path / "headwater.toml").write_text(TOML)
    (path / "config").mkdir()
    (path / "fault").touch()

    async def fill() -> None:
        store = await open_event_store(f"sqlite:{path}/.headwater/accounts/events.db")
        await store.import_events(history(), epoch=new_id())
        await store.close()

    asyncio.run(fill())
    Folder(path).type(Typed("headwater run accounts:service --set retry_attempts=1", ()))
    return path


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.timeout(300)
def test_page(page: str, prepared: Path, tmp_path: Path) -> None:
    """The lines of a page, in order, do what they say."""
    folder = Folder(Path(shutil.copytree(prepared, tmp_path / "system")))
    lines = consoles_of(page)
    assert lines
    for typed in lines:
        folder.type(typed)


def test_settings_in_a_database(prepared: Path, tmp_path: Path, postgres_url: str) -> None:
    """The page on configuring: what was edited is shown, and stored as the second change."""
    page = "docs/how-to/configure-a-service.md"
    path = Path(shutil.copytree(prepared, tmp_path / "system"))
    folder = Folder(path, HEADWATER_DATABASE=postgres_url)
    settings = path / "config" / "orders.yaml"
    settings.write_text("limits:\n  largest_order: 1000\n")
    folder.type(Typed("headwater config push", ()))
    settings.write_text("limits:\n  largest_order: 5000\n")
    dry, push = consoles_of(page)
    assert "5000" in folder.type(dry)
    folder.type(push)


def test_a_store_in_two_files(tmp_path: Path) -> None:
    """The page on spreading a store: an instance runs on two files."""
    (line,) = consoles_of("docs/how-to/spread-a-store.md")
    bank = shutil.copytree(
        ROOT / "examples/bank", tmp_path / "bank", ignore=shutil.ignore_patterns(".headwater")
    )
    Folder(Path(bank)).type(line)
    assert {"left.db", "right.db"} <= {file.name for file in Path(bank).iterdir()}


def test_the_start_page(tmp_path: Path) -> None:
    """The service of the start page runs, and what is typed beside it prints what is shown."""
    page = "docs/index.md"
    write_files(ROOT / page, tmp_path)
    run, *others = consoles_of(page)
    words = [word if word != "8000" else "0" for word in run.words]
    with subprocess.Popen(
        [*HEADWATER, *words[1:]],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as service:
        try:
            assert service.stdout is not None
            said = service.stdout.readline()
            found = re.search(r":(\d+)/docs", said)
            assert found
            port = found[1]
            check_printed(run, said.replace(port, "8000"))
            for typed in others:
                words = [
                    word.replace("localhost:8000", f"localhost:{port}") for word in typed.words
                ]
                words = [*HEADWATER, *words[1:]] if words[0] == "headwater" else words
                check_printed(
                    typed, subprocess.check_output(words, cwd=tmp_path, text=True, timeout=60)
                )
        finally:
            service.terminate()
