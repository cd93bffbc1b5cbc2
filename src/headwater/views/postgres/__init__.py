"""Views in a PostgreSQL schema."""

from headwater.views.postgres.store import PostgresViewStore

__all__ = ["PostgresViewStore"]
