"""headwater schemas: what was released is committed, and what does not go with it fails."""

import subprocess
from pathlib import Path

from tests.integration.cli.conftest import HEADWATER

SHOP = """
from headwater import Aggregate, Command, Event, Service, command_handler


class Place(Command):
    order: str


class Placed(Event):
    order: str{more}


class Order(Aggregate):
    @command_handler(creates=True)
    def place(self, command: Place) -> Placed:
        raise NotImplementedError


service = Service("shop", aggregates=[Order])
"""


def schemas(folder: Path, what: str, *more: str) -> tuple[int, str]:
    command = [*HEADWATER, "schemas", what, "shop.py", *more]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_what_is_broken_fails(tmp_path: Path) -> None:
    """Exit code 1 tells that an event falls short, and a release is not written over by it."""
    shop = tmp_path / "shop.py"
    shop.write_text(SHOP.format(more=""))
    code, told = schemas(tmp_path, "check")
    assert code == 2
    assert "run `headwater schemas release`" in told
    assert schemas(tmp_path, "release") == (0, "schemas/shop.json: 1 events\n")
    released = (tmp_path / "schemas" / "shop.json").read_bytes()
    shop.write_text(SHOP.format(more="\n    cents: int"))
    code, told = schemas(tmp_path, "check")
    assert code == 1
    assert "Placed: forward\n    cents: added, required, integer" in told
    assert schemas(tmp_path, "check", "--require", "forward")[0] == 0
    assert schemas(tmp_path, "release")[0] == 1
    assert (tmp_path / "schemas" / "shop.json").read_bytes() == released
    shop.write_text(SHOP.format(more="\n    cents: int = 0"))
    code, told = schemas(tmp_path, "check")
    assert (code, "Placed: full" in told) == (0, True)
