"""With which exit code a command ends."""

import errno
from typing import Any

import pytest

from headwater.cli import app
from headwater.errors import (
    AddressInUse,
    ConfigurationError,
    DiskFull,
    EventUnreadable,
    StoreCorrupt,
    StoreUnavailable,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AddressInUse(host="h", port=1), 75),
        (StoreUnavailable(store="s", reason="it is away"), 75),
        (DiskFull(store="s"), 75),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 75),
        (OSError(errno.EMFILE, "Too many open files"), 75),
        (ConfigurationError(subject="s", reason="r"), 2),
        (StoreCorrupt(store="s", reason="r"), 2),
        (EventUnreadable(store="s", reason="r", type="T", stream="s", version=1), 1),
    ],
)
def test_exit_codes(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What may be otherwise in a while, what never will, and what just failed are told apart."""

    def failing() -> Any:
        def command(_arguments: Any) -> None:
            raise error

        return command

    monkeypatch.setattr(app, "build_app", failing)
    with pytest.raises(SystemExit) as ended:
        app.run_command_line([])
    assert ended.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


def test_a_fault_of_the_program_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that says nothing of the machine keeps its traceback."""
    monkeypatch.setattr(app, "build_app", lambda: lambda _: open("/nowhere/at all"))  # noqa: SIM115, PTH123
    with pytest.raises(FileNotFoundError):
        app.run_command_line([])
