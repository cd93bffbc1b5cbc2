"""A bank whose commands are sent later, by processes that come and go."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from headwater.dispatch import CommandBus, CommandResult
from headwater.errors import NoInstance
from headwater.messages import Command
from headwater.processing import (
    Recurring,
    Schedule,
    ScheduleProcessor,
)
from headwater.processing.sagas.views import PendingCommand
from headwater.processing.scheduling.views import ScheduledCommand
from tests.integration.processing.bank import command_bus
from tests.integration.processing.conftest import QUICK, Stores, until

NAME = "scheduled-commands"
HOUR = timedelta(hours=1)
EVERY_HOUR = "0 * * * *"


class Elsewhere:
    """What another service calls by the same names."""

    class Credit(Command):
        """See `Elsewhere`."""

        account_id: str

    class Withdraw(Command):
        """See `Elsewhere`."""

        account_id: str


class Gate:
    """A command bus that holds commands up, or is away, as a test wants."""

    def __init__(self, bus: CommandBus) -> None:
        self._bus = bus
        self.open = asyncio.Event()
        self.open.set()
        self.answers = asyncio.Event()
        self.answers.set()
        self.away = False
        self.tried: list[str] = []
        self.carried_out: list[str] = []

    async def send(self, command: Command, **how: Any) -> CommandResult:
        self.tried.append(how["idempotency_key"])
        if self.away:
            raise NoInstance(service="bank")
        await self.open.wait()
        result = await self._bus.send(command, **how)
        self.carried_out.append(how["idempotency_key"])
        await self.answers.wait()
        return result


class Bank:
    """An account, and processors that send what is due to it."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        bus, self.repository = command_bus(stores.store)
        self.bus: CommandBus = bus
        self.schedule = Schedule(stores.views, service="bank")

    async def start(
        self,
        owner: str = "one",
        *,
        bus: CommandBus | None = None,
        recurring: Mapping[str, Recurring] | None = None,
    ) -> ScheduleProcessor:
        views = await self.stores.another()
        processor = ScheduleProcessor(
            Schedule(views, service="bank"),
            views=views,
            owner=owner,
            commands=bus or self.bus,
            service="bank",
            recurring=recurring,
            settings=QUICK,
        )
        await self.stores.start(processor)
        return processor

    async def credited(self, kind: str = "Credited") -> list[str]:
        """Return the references of what was credited, in order."""
        found = []
        async for page in self.stores.store.read():
            found += [event for event in page.events if event.type == kind]
        return [event.data.split(b'"reference":"')[1].split(b'"')[0].decode() for event in found]

    async def until_credited(self, *references: str) -> None:
        async def there() -> bool:
            return sorted(await self.credited()) == sorted(references)

        await until(there, timeout_s=30.0)

    async def nothing_waits(self) -> None:
        async def gone() -> bool:
            rows = [await self.stores.views.count(v) for v in (ScheduledCommand, PendingCommand)]
            return not any(rows)

        await until(gone, timeout_s=30.0)
