"""A directory, memory and PostgreSQL pass the suites of places for settings files."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from headwater.config import SettingsSource, SettingsStore
from headwater.config.folder import Folder
from headwater.config.memory import MemorySettingsStore
from headwater.config.postgres import PostgresSettingsStore
from headwater.testing.config_store import SettingsSourceConformance, SettingsStoreConformance

Contents = Mapping[str, bytes]
Opened = AsyncIterator[tuple[SettingsSource, Callable[[Contents], Awaitable[None]]]]
Pair = AsyncIterator[tuple[SettingsStore, SettingsStore]]


def write(directory: Path, files: Contents) -> None:
    """Make these the files of a directory, each with a new inode."""
    for old in directory.rglob("*.*"):
        if old.is_file() and old.relative_to(directory).as_posix() not in files:
            old.unlink()
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_bytes(content)
        new.replace(path)


class TestFolder(SettingsSourceConformance):
    @asynccontextmanager
    async def open_source(self, files: Contents) -> Opened:
        with TemporaryDirectory() as name:
            directory = Path(name)

            async def change(files: Contents) -> None:
                await asyncio.to_thread(write, directory, files)

            write(directory, files)
            folder = Folder(directory, settle_s=0.2)
            yield folder, change
            await folder.close()


class TestMemorySettingsStore(SettingsStoreConformance):
    @asynccontextmanager
    async def open_pair(self) -> Pair:
        store = MemorySettingsStore()
        yield store, store


class TestPostgresSettingsStore(SettingsStoreConformance):
    @pytest.fixture(autouse=True)
    def place(self, postgres_url: str) -> None:
        self.url = postgres_url

    @asynccontextmanager
    async def open_pair(self) -> Pair:
        one, two = await asyncio.gather(*(PostgresSettingsStore.open(self.url) for _ in range(2)))
        try:
            yield one, two
        finally:
            await one.close()
            await two.close()
