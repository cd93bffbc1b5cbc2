"""An event bus in a SQLite file that the processes of one machine share."""

from headwater._sql.sqlite.url import file_of
from headwater.eventbus.engine import EventBusEngine
from headwater.eventbus.sqlite.bus import SQLiteEventBus

ENGINE = EventBusEngine(
    open=lambda url, partitions: SQLiteEventBus.open(file_of(url), partitions=partitions),
    file_of=file_of,
    shared=True,
    ordered=True,
    drops_repeated=True,
)
"""Opens ``sqlite:<path>``."""

__all__ = ["ENGINE", "SQLiteEventBus"]
