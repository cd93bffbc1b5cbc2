"""headwater config: settings in a database, as an operator handles them."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Up, ask, eventually, headwater, one_line_error
from tests.postgres_server import execute

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command in a folder without a system."""
    monkeypatch.setenv("HEADWATER_DATABASE", postgres_url)

    def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return headwater("config", *arguments, cwd=tmp_path)

    return command


def good(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Return a directory with two settings files."""
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "application.yml").write_text("a: 1\n")
    (directory / "orders.toml").write_text("b = 1\n")
    return directory


def test_push_and_look(run: Run, mine: Path) -> None:
    """A pushed directory can be listed, shown, and is in the history with its message."""
    pushed = good(run("push", mine, "-m", "begin [x]"))
    assert pushed.splitlines() == [
        "stored as change 1",
        "  added    application.yml",
        "  added    orders.toml",
    ]
    (mine / "application.yml").write_text("a: 2\n")
    (mine / "orders.toml").unlink()
    assert "removed  orders.toml" in good(run("push", mine, "--message", "less"))
    assert good(run("push", mine)) == "nothing differs, nothing was stored\n"
    listed = good(run("list"))
    assert "application.yml" in listed
    assert "orders.toml" not in listed
    assert good(run("show", "application.yml")) == "a: 2\n"
    assert good(run("show", "orders.toml", "--at", "1")) == "b = 1\n"
    lines = good(run("history")).splitlines()
    assert "less" in lines[-2]
    assert "-orders.toml" in lines[-2]
    assert "begin [x]" in lines[-1]
    assert "begin" not in good(run("history", "--limit", "1"))
    assert "did you mean 'application.yml'" in one_line_error(run("show", "aplication.yml"), code=2)
    assert "there is no change 9" in one_line_error(
        run("show", "application.yml", "--at", "9"), code=1
    )


def test_dry_run(run: Run, mine: Path) -> None:
    """A dry run shows the lines that differ and stores nothing."""
    good(run("push", mine))
    (mine / "application.yml").write_text("a: 2\n")
    shown = good(run("push", mine, "--dry-run"))
    assert "-a: 1" in shown
    assert "+a: 2" in shown
    assert "changed  application.yml" in shown
    assert good(run("show", "application.yml")) == "a: 1\n"


def test_bad_file(run: Run, mine: Path) -> None:
    """A bad file is refused with its line; nothing of the directory is stored."""
    (mine / "bad.yml").write_text("a: 1\na: 2\n")
    for more in ((), ("--dry-run",), ("--overwrite",)):
        error = one_line_error(run("push", mine, *more), code=2)
        assert "bad.yml:2: key 'a' is given twice, first in line 1" in error
    assert good(run("list")) == "no settings files yet\n"


def test_two_operators(run: Run, mine: Path, tmp_path: Path) -> None:
    """The second of two who edit is told, pulls without losing edits, and pushes again."""
    good(run("push", mine))
    hers = tmp_path / "hers"
    good(run("pull", hers))
    (mine / "application.yml").write_text("a: mine\n")
    (hers / "orders.toml").write_text("b = 'hers'\n")
    good(run("push", mine))
    assert "it would be refused: " in good(run("push", hers, "--dry-run"))
    assert "nothing was stored" in one_line_error(run("push", hers), code=1)
    pulled = good(run("pull", hers))
    assert pulled.splitlines()[1:] == ["  changed  application.yml"]
    good(run("push", hers))
    good(run("pull", mine))
    for directory in (mine, hers):
        assert (directory / "application.yml").read_text() == "a: mine\n"
        assert (directory / "orders.toml").read_text() == "b = 'hers'\n"


def test_both_edit_one_file(run: Run, mine: Path, tmp_path: Path) -> None:
    """A file that both edited is never overwritten unless that is asked for."""
    good(run("push", mine))
    hers = tmp_path / "hers"
    good(run("pull", hers))
    (mine / "application.yml").write_text("a: mine\n")
    (hers / "application.yml").write_text("a: hers\n")
    (hers / "new.yml").write_text("n: 1\n")
    good(run("push", mine))
    assert "application.yml: edited here, but" in one_line_error(run("pull", hers), code=2)
    assert (hers / "application.yml").read_text() == "a: hers\n"
    assert "changed  application.yml" in good(run("push", hers, "--overwrite"))
    assert good(run("show", "application.yml", "--at", "2")) == "a: mine\n"
    good(run("pull", mine, "--overwrite"))
    assert sorted(path.name for path in mine.glob("[a-z]*")) == [
        *("application.yml", "new.yml", "orders.toml")
    ]


def test_directory_of_unknown_origin(run: Run, mine: Path, tmp_path: Path) -> None:
    """A directory that was never pulled from the database replaces nothing by accident."""
    good(run("push", mine))
    other = tmp_path / "other"
    other.mkdir()
    (other / "application.yml").write_text("a: other\n")
    assert "was not pulled from it before" in one_line_error(run("push", other), code=2)
    assert "edited here, but stored otherwise" in one_line_error(run("pull", other), code=2)
    good(run("push", other, "--overwrite"))
    assert good(run("show", "application.yml")) == "a: other\n"


def test_restore(run: Run, mine: Path) -> None:
    """A former state comes back, whole or one file of it, as a new change."""
    good(run("push", mine))
    for name in ("application.yml", "orders.toml"):
        (mine / name).write_text("b = 2\n" if name.endswith("toml") else "a: 2\n")
    good(run("push", mine))
    assert "restored, as change 3\n" in good(run("restore", "1", "orders.toml"))
    assert good(run("show", "orders.toml")) == "b = 1\n"
    assert good(run("show", "application.yml")) == "a: 2\n"
    good(run("restore", "1", "-m", "back"))
    assert good(run("show", "application.yml")) == "a: 1\n"
    history = good(run("history", "orders.toml"))
    assert "restored orders.toml as of change 1" in history
    assert "back" not in history
    assert good(run("restore", "1")) == "nothing differs, nothing was stored\n"
    assert "there is no change 8" in one_line_error(run("restore", "8"), code=1)
    assert "is not there at change 1" in one_line_error(run("restore", "1", "x.yml"), code=2)


def test_names_that_leave_the_directory(run: Run, mine: Path, postgres_url: str) -> None:
    """Whatever somebody wrote into the database by hand, nothing outside a directory is written."""
    good(run("push", mine))
    schema = postgres_url.partition("schema=")[2]
    execute(
        postgres_url,
        f"INSERT INTO {schema}.config_files VALUES ('../out.yml', 1, 'added', 'a: 1')",
    )
    error = one_line_error(run("pull", mine.parent / "hers"), code=2)
    assert "settings file '../out.yml': is no name" in error
    assert not (mine.parent / "out.yml").exists()


def test_no_files(run: Run, tmp_path: Path) -> None:
    """An empty directory is a mistake, not the wish to remove all settings."""
    error = one_line_error(run("push", tmp_path), code=2)
    assert "has no settings files: name another directory" in error
    assert "not a directory" in one_line_error(run("push", tmp_path / "nowhere"), code=2)


def test_directory_without_a_note(run: Run, mine: Path) -> None:
    """A directory that cannot be written, as in a container, can be pushed all the same."""
    (mine / ".headwater-config").mkdir()  # so that no file of that name can be
    assert "stored as change 1" in good(run("push", mine))
    (mine / "application.yml").write_text("a: 2\n")
    assert "was not pulled from it before" in one_line_error(run("push", mine), code=2)
    assert "stored as change 2" in good(run("push", mine, "--overwrite"))


def test_system_without_database(
    make_system: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the directory is served, the commands say so."""
    monkeypatch.delenv("HEADWATER_DATABASE", raising=False)
    file = make_system()
    error = one_line_error(headwater("config", "list", "--file", file), code=2)
    assert f"the settings are the files in {file.parent / 'config'}: edit them there" in error


def test_database_of_the_system(make_system: Callable[..., Path], postgres_url: str) -> None:
    """One line in headwater.toml is the database of the configuration, too."""
    file = make_system()
    text = file.read_text().replace("[gateway]", f'database = "{postgres_url}"\n[gateway]')
    file.write_text(text)
    (file.parent / "config" / "application.yml").write_text("a: 1\n")
    assert os.environ.get("HEADWATER_DATABASE") is None
    good(headwater("config", "push", "--file", file))
    assert good(headwater("config", "show", "application.yml", "--file", file)) == "a: 1\n"


def test_whole_system_on_a_database(
    make_system: Callable[..., Path], up: Callable[..., Up], postgres_url: str
) -> None:
    """With one line, a system comes up with the settings of its directory, and follows a push.

    What is registered is in the database, too.
    """
    file = make_system()
    text = file.read_text().replace("[gateway]", f'database = "{postgres_url}"\n[gateway]')
    file.write_text(text)
    settings = file.parent / "config" / "application.yml"
    settings.write_text("greeting: hello\n")
    system = up(file)
    url = f"{system.wait_ready()['config']}/v1/config/counting/default"
    assert ask(url)[1]["config"] == {"greeting": "hello"}
    settings.write_text("greeting: servus\n")
    good(headwater("config", "push", "--file", file))  # it knows what the directory began with
    eventually("it is served", lambda: ask(url)[1]["config"] == {"greeting": "servus"})
    schema = postgres_url.partition("schema=")[2]
    registered = f"SELECT id FROM {schema}.registry_instances WHERE content IS NOT NULL"
    assert execute(postgres_url, registered) == "counting-1"
    assert system.stop() == 0
