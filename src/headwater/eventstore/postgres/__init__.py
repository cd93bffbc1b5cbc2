"""The event store in a PostgreSQL schema."""

from headwater.eventstore.postgres.store import PostgresEventStore

__all__ = ["PostgresEventStore"]
