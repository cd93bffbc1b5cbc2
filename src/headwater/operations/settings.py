"""The settings of a system that are in a database: their history, and how to go back."""

import contextlib
from collections.abc import AsyncIterator, Mapping

from headwater.config import SettingsChange, SettingsStore
from headwater.errors import ConfigurationError
from headwater.operations.documents import nearest


@contextlib.asynccontextmanager
async def open_settings(url: str) -> AsyncIterator[SettingsStore]:
    """Open the database with settings, and close it at the end.

    Raises:
        StoreUnavailable, SchemaTooNew: it cannot be opened.
    """
    from headwater.config.postgres import PostgresSettingsStore

    store = await PostgresSettingsStore.open(url)
    try:
        yield store
    finally:
        await store.close()


async def content_of(store: SettingsStore, name: str, *, at: int | None = None) -> bytes:
    """Return a settings file, secrets included: now, or as it was after a change.

    Raises:
        ConfigurationError: it is not there, or there is no such change.
        StoreUnavailable: the database is away.
    """
    state = await (store.read() if at is None else store.at(at))
    return _named(state.contents(), name, at)


async def restore(
    store: SettingsStore, number: int, *, name: str = "", author: str, comment: str = ""
) -> SettingsChange | None:
    """Make the settings, or one file, what they were after a change: that is a new change.

    Returns:
        The new change; None when nothing differs.

    Raises:
        ConfigurationError: there is no such change, or the file was not there.
        StoreUnavailable: the database is away.
    """
    now, then = await store.read(), await store.at(number)
    files = then.contents()
    if name:
        files = {**now.contents(), name: _named(files, name, number)}
    return await store.push(
        files,
        expected=now.change,
        author=author,
        comment=comment or f"restored {name or 'everything'} as of change {number}",
    )


def _named(files: Mapping[str, bytes], name: str, at: int | None) -> bytes:
    if name not in files:
        when = "" if at is None else f" at change {at}"
        raise ConfigurationError(
            subject=f"settings file {name!r}", reason=f"is not there{when}: {nearest(name, files)}"
        )
    return files[name]
