"""By which clock waiting is measured."""

from typing import Any

from headwater.operations.letters import letters
from headwater.operations.processors import Found, Opened, figures
from headwater.processing import ProcessorStatus
from headwater.processing.handling.applier import Outbox
from headwater.views.memory import MemoryViewStore

STORE = 5_000_000.0  # long ago, by the clock of this machine


class Behind(MemoryViewStore):
    """A store whose clock is far behind this machine's."""

    async def now(self) -> float:
        """Return its time."""
        return STORE


class Admin:
    """Stands for a saga with commands that wait."""

    name = "transfer"

    async def status(self) -> ProcessorStatus:
        """Return that the oldest command has waited for a minute."""
        outbox = Outbox(commands=2, since=STORE - 60, reason="nobody answers")
        return ProcessorStatus("transfer", 0, (), lag=0, dead_letters=0, outbox=outbox)

    async def letters(self) -> Any:
        """Yield none."""
        for letter in ():
            yield letter


def opened() -> Opened:
    admin: Any = Admin()
    return Opened([Found("bank", "transfer", admin, Behind())], [], [])


async def test_commands_wait_by_the_clock_of_their_store():
    """How long a command waits is told by the clock that said when it was decided."""
    (found,) = [one async for one in figures(opened())]
    assert found.waiting_s == 60


async def test_letters_are_due_by_the_clock_of_their_store():
    """With the letters comes the time by which they are due."""
    (found,) = await letters(opened())
    assert found.now == STORE
