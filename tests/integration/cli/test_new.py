"""headwater new: what it makes runs at once."""

import os
import subprocess
import sys

import pytest

from tests.integration.cli.conftest import ask, eventually, headwater, one_line_error


def test_a_new_service_runs_and_passes_its_own_tests(tmp_path, up):
    """The scaffold's tests pass, and `headwater up` in it answers what its README says."""
    result = headwater("new", "order-desk", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "headwater up" in result.stdout
    folder = tmp_path / "order-desk"
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
    )
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert "4 passed" in tests.stdout

    ports = ("--port", "0", "--discovery-port", "0", "--config-port", "0")
    running = up(folder / "headwater.toml", *ports)
    gateway = running.wait_ready()["gateway"]
    body = {"task_id": "1", "title": "Write it down"}
    assert ask(f"{gateway}/tasks", body=body)[0] == 200
    assert ask(f"{gateway}/tasks", body=body)[0] == 409
    assert ask(f"{gateway}/tasks/1/completion", body={})[0] == 200
    status, problem, _ = ask(f"{gateway}/tasks/1/completion", body={})
    assert (status, problem["code"]) == (409, "task-is-done")
    done = {"id": "1", "title": "Write it down", "done": True}
    eventually("the view is there", lambda: ask(f"{gateway}/tasks/1")[1] == done)
    assert ask(f"{gateway}/tasks?done=true")[1] == [done]
    shown = headwater("state", "Task/1", "--at-version", "1", cwd=folder)
    assert '"done": false' in shown.stdout
    assert running.stop() == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("1st", "expected a letter"),
        ("a b", "expected a letter"),
        ("class", "expected a letter"),
        ("json", "is the name of a Python module already"),
        ("headwater", "is the name of a Python module already"),
    ],
)
def test_a_name_that_is_no_package_is_refused(tmp_path, name, words):
    """A name that cannot be imported, or hides a module, is refused and nothing is made."""
    assert words in one_line_error(headwater("new", name, cwd=tmp_path), code=2)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    """A folder with something in it is left alone."""
    (tmp_path / "desk").mkdir()
    (tmp_path / "desk/mine").touch()
    assert "is not empty" in one_line_error(headwater("new", "desk", cwd=tmp_path), code=2)
    assert [path.name for path in (tmp_path / "desk").iterdir()] == ["mine"]
