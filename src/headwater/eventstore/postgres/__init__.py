"""The event store in a PostgreSQL schema."""

from headwater._sql.postgres.url import name_of
from headwater.eventstore.engine import EventStoreEngine
from headwater.eventstore.postgres.log import open_log
from headwater.eventstore.postgres.store import PostgresEventStore

ENGINE = EventStoreEngine(
    open=PostgresEventStore.open, open_log=open_log, name_of=name_of, shared=True
)
"""Opens ``postgresql://<user>@<host>/<database>?schema=<name>``."""

__all__ = ["ENGINE", "PostgresEventStore", "open_log"]
