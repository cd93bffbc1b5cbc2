"""Views in a PostgreSQL schema."""

from headwater._sql.postgres.url import name_of
from headwater.views.engine import ViewStoreEngine
from headwater.views.postgres.store import PostgresViewStore

ENGINE = ViewStoreEngine(open=PostgresViewStore.open, name_of=name_of, shared=True, sql="postgres")
"""Opens ``postgresql://<user>@<host>/<database>?schema=<name>``."""

__all__ = ["ENGINE", "PostgresViewStore"]
