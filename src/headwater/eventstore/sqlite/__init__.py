"""The event store in a SQLite file."""

from headwater._sql.sqlite.url import file_of
from headwater.eventstore.engine import EventStoreEngine
from headwater.eventstore.sqlite.log import open_log
from headwater.eventstore.sqlite.store import SQLiteEventStore

ENGINE = EventStoreEngine(
    open=lambda url: SQLiteEventStore.open(file_of(url)),
    open_log=lambda url: open_log(file_of(url)),
    file_of=file_of,
    shared=True,
)
"""Opens ``sqlite:<path>``."""

__all__ = ["ENGINE", "SQLiteEventStore", "open_log"]
