"""Part of the event store suite: what an engine declares, and opening by URL."""

from pathlib import Path

import pytest

from headwater.errors import ConfigurationError, StoreUnavailable
from headwater.eventstore import EventStore, ReadableLog, StoredEvent
from headwater.testing.eventstore_base import (
    EventStoreBase,
    event,
    events_of,
    log_of,
    pages_of,
    put,
    soon,
    write,
)


async def _first(log: ReadableLog, after: int) -> StoredEvent:
    async for page in log.follow(after=after):
        if page.events:
            return page.events[0]
    raise AssertionError  # it is followed for ever


class EngineConformance(EventStoreBase):
    """An engine opens what its URLs name, and is what it says."""

    async def test_the_url_names_the_store(self, tmp_path: Path) -> None:
        """Who opens a URL twice has one log if the engine is shared, and else two."""
        engine, url = self.engine, self.url(tmp_path)
        first = await engine.open(url)
        second = await engine.open(url)
        try:
            await put(first, write("a", event("Stored")))
            assert await second.head() == (1 if engine.shared else 0)
        finally:
            await first.close()
            await second.close()
        assert engine.name_of(url)
        file = engine.file_of(url)
        assert file is None or file.exists()

    @pytest.mark.parametrize("open", [False, True])
    async def test_a_log_is_read_without_writing(self, tmp_path: Path, open: bool) -> None:
        """A log that is opened for reading shows what the store shows, open or closed."""
        engine, url = self.engine, self.url(tmp_path)
        if engine.open_log is None:
            return
        store = await engine.open(url)
        await put(store, write("a", event("Stored", "x"), event("Stored")), write("b"))
        whole, epoch = await log_of(store), store.epoch
        if not open:
            await store.close()
        log = await engine.open_log(url)
        try:
            assert await events_of(log.read()) == whole
            assert await events_of(log.read_stream("a", backwards=True)) == whole[1::-1]
            assert (log.epoch, await log.head(), await log.version("a")) == (epoch, 3, 2)
            assert await log.position_at(whole[-1].time) == 3
            assert (await log.owner(), await log.shard()) == ("", None)
            assert [keys async for keys in log.read_keys()] == []
            assert (await pages_of(log.read(after=3)))[0].through == 3
            if not open:
                store = await engine.open(url)
                assert await log.head() == 3
            await put(store, write("c", event("Later")))
            assert (await soon(_first(log, 3))).type == "Later"
        finally:
            await log.close()
            await store.close()

    async def test_a_log_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        """To open a log for reading makes nothing; the same once more after the refusal."""
        engine, url = self.engine, self.url(tmp_path)
        if engine.open_log is None:
            return
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as caught:
                await engine.open_log(url)
            assert caught.value.outcome == "not stored"

    async def test_what_is_not_imported_is_refused(self, store: EventStore) -> None:
        """An engine that declares no imports refuses them, saying so, and stores nothing."""
        if self.engine.imports:
            return
        with pytest.raises(ConfigurationError):
            await store.import_events((), epoch="another")
        assert await store.head() == 0
