"""An event bus in a SQLite file that the processes of one machine share."""

from headwater.eventbus.sqlite.bus import SQLiteEventBus

__all__ = ["SQLiteEventBus"]
