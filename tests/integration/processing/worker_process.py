"""A process that works on the ledger or on the sagas of a directory, until it is killed."""

import asyncio
import sys
from pathlib import Path

import msgspec

from headwater.eventstore.sqlite import SQLiteEventStore
from headwater.processing import Processor, SagaProcessor, StoreSource
from headwater.views.sqlite import SQLiteViewStore
from tests.integration.processing.bank import MoneyTransfer, command_bus
from tests.integration.processing.conftest import QUICK
from tests.integration.processing.domain import Ledger

SETTINGS = msgspec.structs.replace(QUICK, page_size=50)


async def main(kind: str, directory: Path, owner: str) -> None:
    """Work for ever; say when it began."""
    store = await SQLiteEventStore.open(directory / "events.db")
    views = await SQLiteViewStore.open(directory / "views.db")
    source = StoreSource(store, "ledger")
    if kind == "ledger":
        processor = Processor(Ledger, source=source, views=views, owner=owner, settings=SETTINGS)
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
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
