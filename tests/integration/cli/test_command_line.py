"""The command line itself: help, version, start-up."""

import subprocess
import sys
import time

from headwater import __version__
from tests.integration.cli.conftest import HEADWATER, headwater


def test_no_command_shows_the_help():
    """Without a command every command is listed with one line."""
    result = headwater()
    assert result.returncode == 0
    for name in ("up", "run", "new", "services", "events", "state", "processors", "dead-letters"):
        assert f" {name} " in result.stdout


def test_the_version_is_the_packages():
    """`version` and --version print the same."""
    assert headwater("version").stdout.strip() == __version__
    assert headwater("--version").stdout.strip() == __version__


def test_every_command_has_help():
    """Each command's own help loads and says how to use it."""
    for name in ("up", "run", "new", "services", "events", "state", "processors", "dead-letters"):
        result = headwater(name, "--help")
        assert result.returncode == 0, result.stderr
        assert f"headwater {name}" in result.stdout


def test_help_loads_no_heavy_library():
    """The help appears at once: no web framework, HTTP client or database is imported for it."""
    code = (
        "import sys\n"
        "from headwater.cli.app import run_command_line\n"
        "try:\n    run_command_line(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'litestar', 'aiohttp', 'apsw', 'uvicorn', 'prometheus_client', 'structlog'}\n"
        "found = heavy & set(sys.modules)\nsys.exit(repr(found) if found else 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_the_reader_of_a_pipe_may_leave():
    """Output into a pipe that was closed ends quietly."""
    with subprocess.Popen(
        [*HEADWATER, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        ends = time.monotonic() + 60
        assert "Traceback" not in process.stderr.read()
        assert time.monotonic() < ends
