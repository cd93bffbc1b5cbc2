"""An event bus in a PostgreSQL schema that the processes of any number of machines share."""

from headwater.eventbus.postgres.bus import PostgresEventBus

__all__ = ["PostgresEventBus"]
