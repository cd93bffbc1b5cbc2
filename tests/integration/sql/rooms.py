"""The three rooms on PostgreSQL, each as something that things are put into and counted in."""

import os
from typing import Annotated, Any, ClassVar

import asyncpg
import msgspec

from headwater.errors import HeadwaterError
from headwater.eventbus.postgres import PostgresEventBus
from headwater.eventstore.postgres import PostgresEventStore
from headwater.testing.eventbus import bus_event
from headwater.testing.eventstore_base import event, log_of, put, write
from headwater.views import Key, View
from headwater.views.postgres import PostgresViewStore
from headwater.views.postgres.tables import table
from tests.integration.eventstore.test_postgres_processes import check_dense


class Thing(View):
    id: Annotated[str, Key]
    text: str = ""


class Room:
    """An open room. ``put`` stores a thing durably; the room is empty before the first."""

    table: ClassVar[str]  # where things are

    def __init__(self, opened: Any) -> None:
        self.opened = opened

    async def put(self, number: int, size: int = 0) -> None:
        raise NotImplementedError

    async def numbers(self) -> list[int]:
        """Return what is stored, in order; fails when there is a gap."""
        raise NotImplementedError

    async def close(self) -> None:
        await self.opened.close()


def incompressible(size: int) -> str:
    """Return a text that takes at least so many bytes on disk."""
    return os.urandom(size).hex()


class Events(Room):
    table = "events"

    @classmethod
    async def open(cls, url: str) -> "Events":
        return cls(await PostgresEventStore.open(url, lock_timeout_s=0.2, resolve_timeout_s=0.3))

    async def put(self, number: int, size: int = 0) -> None:
        data = f"[{number},{incompressible(size)!r}]".encode()
        await put(self.opened, write(f"s/{number % 3}", event(data=data)))

    async def numbers(self) -> list[int]:
        log = await log_of(self.opened)
        check_dense(log)
        return sorted(int(e.data[1 : e.data.index(b",")]) for e in log)


class Views(Room):
    table = table(Thing, 1).name

    @classmethod
    async def open(cls, url: str) -> "Views":
        store = await PostgresViewStore.open(url, lock_timeout_s=0.2)
        try:
            await store.ensure([Thing])
        except HeadwaterError:
            await store.close()
            raise
        return cls(store)

    async def put(self, number: int, size: int = 0) -> None:
        async with self.opened.transaction() as work:
            await work.load(Thing, [str(number)])
            await work.save([Thing(str(number), incompressible(size))])

    async def numbers(self) -> list[int]:
        found = await self.opened.find(Thing, limit=10_000)
        return sorted(int(thing.id) for thing in found.items)


class Bus(Room):
    table = "bus_events"

    @classmethod
    async def open(cls, url: str) -> "Bus":
        return cls(await PostgresEventBus.open(url, lock_timeout_s=0.2))

    async def put(self, number: int, size: int = 0) -> None:
        data = f'[{number},"{incompressible(size)}"]'.encode()
        await self.opened.publish([msgspec.structs.replace(bus_event(number), data=data)])

    async def numbers(self) -> list[int]:
        sql = f"SELECT position, partition, partition_offset FROM {self.table} ORDER BY 2, 3"
        rows = await self.opened._database.read(lambda connection: connection.fetch(sql))
        for partition in range(4):
            offsets = [row[2] for row in rows if row[1] == partition]
            assert offsets == list(range(len(offsets)))
        return sorted(row[0] for row in rows)


ROOMS: tuple[type[Room], ...] = (Events, Views, Bus)


async def run(url: str, *statements: str) -> list[Any]:
    """Run statements on a connection of an administrator; return the first value of each."""
    connection = await asyncpg.connect(url)
    try:
        return [await connection.fetchval(statement) for statement in statements]
    finally:
        await connection.close()
