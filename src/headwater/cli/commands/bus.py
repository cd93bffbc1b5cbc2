"""``headwater bus``: its partitions, who reads it and how far, and the events on it."""

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from headwater.cli.commands.events import fields_of
from headwater.cli.logs import run_quietly
from headwater.cli.terminal import console
from headwater.cli.times import show_time
from headwater.eventbus import Delivery
from headwater.messages.sealing import as_json
from headwater.operations import bus as operations
from headwater.operations.bus import ConsumerFigures, OpenedBus
from headwater.operations.processors import open_admins
from headwater.operations.stores import DEFAULT_FILE

app = App(name="bus", help="Show the event bus: partitions, who reads it and how far; its events.")
_encode = msgspec.json.Encoder().encode


@app.default
def bus(*, service: str = "", file: Path = DEFAULT_FILE) -> None:
    """Show the partitions of the event bus, and how far each processor has read them.

    Parameters
    ----------
    service
        The bus of this service, if services have several, and its processors only.
    file
        The description of the system.
    """
    run_quietly(_show(file, service))


@app.command
def read(
    *,
    partition: int = 0,
    first: Annotated[int | None, Parameter(name="--from")] = None,
    limit: int = 20,
    json: bool = False,
    service: str = "",
    file: Path = DEFAULT_FILE,
) -> None:
    """Show events of a partition, the newest last; nobody's progress changes.

    Without --from the last ones are shown.

    Parameters
    ----------
    partition
        The partition, from 0.
    first
        From the event at this offset on.
    limit
        At most so many.
    json
        One JSON object per line, with metadata.
    service
        The bus of this service, if services have several.
    file
        The description of the system.
    """
    run_quietly(_read(file, service, partition, first, limit, json=json))


async def _show(file: Path, service: str) -> None:
    from rich.table import Table

    async with open_admins(file, service) as opened, operations.open_bus(file, service) as found:
        table = Table("partition", "kept from", "last", "time of last")
        for one in await operations.partitions(found.bus):
            time = show_time(one.last_us) if one.last_us else "-"
            table.add_row(str(one.partition), str(one.begin), str(one.end), time)
        readers = Table("service", "processor", "partition", "offset", "lag", "")
        for reader in await operations.consumers(opened, found.bus):
            readers.add_row(*_reader(reader))
    console().print(f"{found.name}: {_kept(found)}", markup=False, highlight=False)
    console().print(table)
    console().print(readers)


def _kept(found: OpenedBus) -> str:
    if found.warning:
        return found.warning
    if found.forgets and found.kept_s:
        return f"keeps what all have read for {found.kept_s:g} s"
    return "keeps everything" if found.forgets else "keeps what its broker is told to"


def _reader(one: ConsumerFigures) -> tuple[str, ...]:
    state = "[yellow]paused[/]" if one.paused else ""
    if one.forgotten:
        state = "[red]behind what is kept: rebuild it[/]"
    place = (str(one.partition), str(one.offset), str(one.lag))
    return (one.service, one.processor, *place, state)


async def _read(
    file: Path, service: str, partition: int, first: int | None, limit: int, *, json: bool
) -> None:
    show = _show_json if json else _show_line
    async with operations.open_bus(file, service) as found:
        events = operations.read(found.bus, partition=partition, first=first, limit=limit)
        async for delivery in events:
            show(delivery)


def _show_line(delivery: Delivery) -> None:
    event = delivery.event
    tags = f"  {' '.join(event.tags)}" if event.tags else ""
    sys.stdout.write(
        f"{delivery.offset:>8}  {show_time(event.time)}  {event.source}@{event.position}  "
        f"{event.stream}@{event.version}  {event.type}  {as_json(event.data).decode()}{tags}\n"
    )


def _show_json(delivery: Delivery) -> None:
    event = delivery.event
    content: dict[str, Any] = {
        "partition": delivery.partition,
        "offset": delivery.offset,
        "source": event.source,
        "epoch": event.epoch,
        **fields_of(event),
        "confirmed": event.confirmed,
    }
    sys.stdout.write(f"{_encode(content).decode()}\n")
