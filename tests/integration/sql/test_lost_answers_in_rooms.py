"""Every room over a way that breaks: what it reports of a change is what another one sees."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from headwater.config.postgres import PostgresSettingsStore
from headwater.discovery.postgres import PostgresRegistryStore
from headwater.errors import Outcome, StoreUnavailable
from headwater.eventstore import Snapshot, StoredEvent
from headwater.eventstore.postgres import PostgresEventStore
from headwater.testing.discovery_store import asked, decided
from headwater.testing.eventstore_base import log_of
from headwater.views.postgres import PostgresViewStore
from tests.cutting_proxy import COMMIT, CuttingProxy
from tests.integration.sql.rooms import Bus, Events, Room, Thing, Views

NUMBERS = range(60)


class Log(Events):
    """Events; who appends finds out by the number of its batch."""

    @classmethod
    async def open(cls, url: str) -> "Log":
        return cls(await PostgresEventStore.open(url))


class Tokens(Room):
    """Tokens of a claim, each with a document; what is lost is found out by the token's steps."""

    @classmethod
    async def open(cls, url: str) -> "Tokens":
        store = await PostgresViewStore.open(url)
        await store.ensure([Thing])
        return cls(store)

    async def prepare(self) -> None:
        (segment,) = await self.opened.open_segments("p", count=1, token="", generation=1)
        self.claim = await self.opened.claim(segment, owner="me", lease_s=1000.0)

    async def put(self, number: int, size: int = 0) -> None:
        if not hasattr(self, "claim"):
            (self.claim,) = await self.opened.segments("p")
        async with self.opened.transaction() as work:
            assert not await work.load(Thing, [str(number)])
            await work.advance([self.claim], str(number))
            await work.save([Thing(str(number))])

    async def numbers(self) -> list[int]:
        found = sorted(int(t.id) for t in (await self.opened.find(Thing, limit=1000)).items)
        (segment,) = await self.opened.segments("p")
        assert int(segment.token or "-1") == max(found, default=-1)
        return found


class Claims(Room):
    """Claims of segments, each taken once."""

    @classmethod
    async def open(cls, url: str) -> "Claims":
        return cls(await PostgresViewStore.open(url))

    async def prepare(self) -> None:
        for number in NUMBERS:
            await self.opened.open_segments(f"p{number}", count=1, token="", generation=1)

    async def put(self, number: int, size: int = 0) -> None:
        (segment,) = await self.opened.segments(f"p{number}")
        claim = await self.opened.claim(segment, owner="me", lease_s=1000.0)
        assert claim is not None
        assert (claim.owner, claim.fence) == ("me", 1)

    async def numbers(self) -> list[int]:
        segments = await self.opened.segments()
        assert {segment.fence for segment in segments} <= {0, 1}
        return sorted(int(s.processor[1:]) for s in segments if s.owner)


class Imports(Room):
    """Events of another store, stored as they are."""

    @classmethod
    async def open(cls, url: str) -> "Imports":
        return cls(await PostgresEventStore.open(url))

    async def put(self, number: int, size: int = 0) -> None:
        position = 1 + await self.opened.head()
        data = str(number).encode()
        event = StoredEvent(
            position=position, stream="s", version=position, type="T", type_version=1,
            time=position, tags=(), data=data, metadata=b"{}",
        )  # fmt: skip
        await self.opened.import_events([event], epoch=self.opened.epoch)

    async def numbers(self) -> list[int]:
        return [int(event.data) for event in await log_of(self.opened)]


class Snapshots(Room):
    """Snapshots of streams; to save one twice does no harm."""

    @classmethod
    async def open(cls, url: str) -> "Snapshots":
        return cls(await PostgresEventStore.open(url))

    async def put(self, number: int, size: int = 0) -> None:
        await self.opened.save_snapshot(Snapshot(f"s{number}", 1, "f", b"{}"))

    async def numbers(self) -> list[int]:
        return [n for n in NUMBERS if await self.opened.load_snapshot(f"s{n}") is not None]


class Registry(Room):
    """Instances, registered and then changed by who has seen the revision."""

    @classmethod
    async def open(cls, url: str) -> "Registry":
        return cls(await PostgresRegistryStore.open(url))

    async def put(self, number: int, size: int = 0) -> None:
        id = f"i-{number}"
        if number % 2:
            seen = await self.opened.write([asked(id, expired=True)])
            assert seen.keys() == {id}
        else:  # nobody has changed it since it was not there
            assert (await self.opened.write([decided(0, id, expired=True)])).keys() == {id}

    async def numbers(self) -> list[int]:
        page = await self.opened.read(None)
        assert page.mark.revision == len(page.records)
        return sorted(int(record.id.removeprefix("i-")) for record in page.records)


class Settings(Room):
    """Changes of the settings, each of which adds a file."""

    @classmethod
    async def open(cls, url: str) -> "Settings":
        return cls(await PostgresSettingsStore.open(url))

    async def put(self, number: int, size: int = 0) -> None:
        state = await self.opened.read()
        files = {**state.contents(), f"a{number}.yml": b"a: 1\n"}
        assert await self.opened.push(files, expected=state.change) is not None

    async def numbers(self) -> list[int]:
        added = [name for c in await self.opened.history(limit=1000) for name in c.added]
        assert len(added) == (await self.opened.read()).change
        return sorted(int(name[1:].removesuffix(".yml")) for name in added)


ROOMS: tuple[Any, ...] = (
    *(Log, Views, Tokens, Claims, Imports, Snapshots, Bus, Registry, Settings),
)
REPEATED = (Snapshots, Bus)
"""Where a statement is just done again, and reported as unknown when it was cut twice."""


async def told(room: Room, number: int) -> Outcome:
    try:
        await room.put(number)
    except StoreUnavailable as error:
        return error.outcome
    return "stored"


@pytest.mark.parametrize("kind", ROOMS, ids=[room.__name__.lower() for room in ROOMS])
async def test_a_room_reports_what_is_stored(postgres_url: str, kind: Any) -> None:
    """Cut at any moment, a change is reported as it ended, and is there once or not at all."""
    witness = await kind.open(postgres_url)
    if hasattr(witness, "prepare"):
        await witness.prepare()
    async with CuttingProxy(postgres_url, seed=len(kind.__name__)) as proxy:
        room = await kind.open(proxy.url)
        said: dict[int, Outcome] = {}
        cut: Counter[str] = Counter()
        for number in NUMBERS:
            few = kind in (Log, *REPEATED)  # a single request for each change
            only = COMMIT if number % 3 == 1 and not few else ""
            await proxy.tell(only=only, chance=0.5 if only else 0.3 if few else 0.12)
            said[number] = await told(room, number)
            cut = await proxy.tell()
        assert sum(cut.values()) > 5, cut
        async with asyncio.timeout(30):  # what is unknown may still be on its way
            while (stored := await witness.numbers()) != await room.numbers():
                pass
        await room.close()
    await witness.close()
    assert len(stored) == len(set(stored))
    unknown = {number for number, outcome in said.items() if outcome == "unknown"}
    assert not unknown or kind in REPEATED
    for number in said.keys() - unknown:
        assert (number in stored) == (said[number] == "stored"), number
    assert len(stored) > 10
