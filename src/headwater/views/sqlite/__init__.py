"""Views in a SQLite file."""

from headwater.views.sqlite.store import SQLiteViewStore

__all__ = ["SQLiteViewStore"]
