"""The event store in a SQLite file."""

from headwater.eventstore.sqlite.store import SQLiteEventStore

__all__ = ["SQLiteEventStore"]
