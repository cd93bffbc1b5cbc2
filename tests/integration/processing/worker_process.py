"""A process that works on the ledger, sagas or what is due, or rebuilds, until it is killed."""

import asyncio
import sys
from pathlib import Path

import msgspec

from headwater.eventstore import EventStore
from headwater.eventstore.postgres import PostgresEventStore
from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.processing import (
    Processor,
    ProcessorAdmin,
    SagaProcessor,
    Schedule,
    ScheduleProcessor,
    StoreSource,
)
from headwater.views import ViewStore
from headwater.views.postgres import PostgresViewStore
from headwater.views.sqlite import SQLiteViewStore
from tests.integration.processing.bank import MoneyTransfer, command_bus
from tests.integration.processing.conftest import QUICK
from tests.integration.processing.domain import Ledger

SETTINGS = msgspec.structs.replace(QUICK, page_size=50)


async def open_stores(place: str) -> tuple[EventStore, ViewStore]:
    """Open the stores in a directory or at a URL."""
    if "://" in place:
        return await PostgresEventStore.open(place), await PostgresViewStore.open(place)
    events = await SQLiteEventStore.open(Path(place, "events.db"))
    return events, await SQLiteViewStore.open(Path(place, "views.db"))


async def main(kind: str, place: str, owner: str) -> None:
    """Work for ever; say when it began."""
    store, views = await open_stores(place)
    source = StoreSource(store, "ledger")
    if kind == "rebuild":
        admin = ProcessorAdmin(Ledger, source=source, views=views, owner=owner, settings=SETTINGS)
        sys.stdout.write("working\n")
        sys.stdout.flush()
        await admin.rebuild()
        return
    if kind == "ledger":
        processor = Processor(Ledger, source=source, views=views, owner=owner, settings=SETTINGS)
    elif kind == "schedule":
        bus, _ = command_bus(store)
        schedule = Schedule(views, service="bank")
        await schedule.open()
        processor = ScheduleProcessor(
            schedule, views=views, owner=owner, commands=bus, service="bank", settings=SETTINGS
        )
    else:
        bus, _ = command_bus(store)
        processor = SagaProcessor(
            MoneyTransfer, source=source, views=views, owner=owner, commands=bus, settings=SETTINGS
        )
    await processor.start()
    sys.stdout.write("working\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
