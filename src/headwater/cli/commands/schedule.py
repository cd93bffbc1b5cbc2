"""``headwater schedule``: what is to be sent later, and how to take it back."""

import sys
from pathlib import Path

import msgspec
from cyclopts import App

from headwater.cli.logs import run_quietly
from headwater.cli.terminal import console
from headwater.operations import schedule as operations
from headwater.operations.stores import DEFAULT_FILE

app = App(name="schedule", help="List and cancel commands that are to be sent later.")


@app.command(name="list")
def list_scheduled(*, service: str = "", json: bool = False, file: Path = DEFAULT_FILE) -> None:
    """List what is to be sent later, the next first; what was refused is a dead letter.

    Parameters
    ----------
    service
        Only of this service.
    json
        One JSON object for each instead of a table, for programs.
    file
        The description of the system.
    """
    run_quietly(_list(file, service, json=json))


@app.command
def cancel(id: str, *, service: str = "", file: Path = DEFAULT_FILE) -> None:
    """Take a command back, so that it is not sent.

    Parameters
    ----------
    id
        As it is listed.
    service
        Only look in this service.
    file
        The description of the system.
    """
    run_quietly(_cancel(file, service, id))


async def _list(file: Path, service: str, *, json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("service", "due", "type", "id", "command")
    async with operations.open_schedules(file, service) as opened:
        async for found in operations.waiting(opened):
            one = found.scheduled
            if json:
                content: dict[str, object] = {
                    "service": found.service,
                    "id": one.id,
                    "due": one.due,
                    "type": one.name,
                }
                if bytes(one.content):
                    content["command"] = one.content
                sys.stdout.write(f"{msgspec.json.encode(content).decode()}\n")
            else:
                due = f"{one.due:%Y-%m-%dT%H:%M:%SZ}"
                cells = (found.service, due, one.name, one.id, bytes(one.content).decode())
                table.add_row(*map(Text, cells))
    if not json:
        console().print(table if table.row_count else "nothing is to be sent later")


async def _cancel(file: Path, service: str, id: str) -> None:
    async with operations.open_schedules(file, service) as opened:
        owner = await operations.cancel(opened, id)
    sys.stdout.write(f"{owner}: {id} is not sent\n")
