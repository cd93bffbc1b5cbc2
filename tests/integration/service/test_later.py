"""Several instances of a service that sends later, and has a background task."""

import asyncio
from datetime import timedelta
from pathlib import Path

from headwater import Aggregate, Command, Event, Service, command_handler
from headwater.service.runtime import Runtime
from tests.integration.processing.conftest import until


class Ring(Command):
    bell_id: str


class Rung(Event):
    bell_id: str


class Bell(Aggregate):
    @command_handler
    def ring(self, command: Ring) -> Rung:
        return Rung(command.bell_id)

    @command_handler(creates="if_missing")
    def hang(self, command: "Hang") -> "Hung":
        return Hung(command.bell_id)


class Hang(Command):
    bell_id: str


class Hung(Event):
    bell_id: str


async def rung(runtime: Runtime) -> int:
    assert runtime.store is not None
    [log] = runtime.store.shards
    return sum([e.type == "Rung" async for page in log.read() for e in page.events])


async def test_who_is_left_goes_on(tmp_path: Path) -> None:
    """What one instance has put down, and the task that it ran, the one that is left does."""
    service = Service("bells", aggregates=[Bell], scheduling=True)
    running: list[Runtime] = []

    @service.background
    async def watch() -> None:
        mine = service.runtime
        assert isinstance(mine, Runtime)
        running.append(mine)
        try:
            await asyncio.Event().wait()
        finally:
            running.remove(mine)

    given = {"data": str(tmp_path)}
    async with Runtime(service, given) as left:
        async with Runtime(service, given) as gone:
            await gone.commands.send(Hang("b"))
            await until(lambda: len(running) == 1, timeout_s=30.0)
            await gone.commands.send(Ring("b"), after=timedelta(seconds=1))
            receipt = await left.commands.send(Ring("b"), after=timedelta(days=1))
        await until(lambda: running == [left], timeout_s=30.0)

        async def sent() -> bool:
            return await rung(left) == 1

        await until(sent, timeout_s=30.0)
        assert await left.commands.schedule.cancel(receipt.id)
    assert running == []
