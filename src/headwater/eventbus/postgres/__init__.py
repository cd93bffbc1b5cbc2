"""An event bus in a PostgreSQL schema, shared by any number of processes and machines."""

from headwater._sql.postgres.url import name_of
from headwater.eventbus.engine import EventBusEngine
from headwater.eventbus.postgres.bus import PostgresEventBus

ENGINE = EventBusEngine(
    open=lambda url, partitions: PostgresEventBus.open(url, partitions=partitions),
    name_of=name_of,
    shared=True,
    ordered=True,
    drops_repeated=True,
)
"""Opens ``postgresql://<user>@<host>/<database>?schema=<name>``."""

__all__ = ["ENGINE", "PostgresEventBus"]
