"""Views in a SQLite file."""

from headwater._sql.sqlite.url import file_of
from headwater.views.engine import ViewStoreEngine
from headwater.views.sqlite.store import SQLiteViewStore

ENGINE = ViewStoreEngine(
    open=lambda url: SQLiteViewStore.open(file_of(url)), file_of=file_of, shared=True, sql="sqlite"
)
"""Opens ``sqlite:<path>``."""

__all__ = ["ENGINE", "SQLiteViewStore"]
