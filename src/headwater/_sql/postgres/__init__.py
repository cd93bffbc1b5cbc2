"""What rooms with a PostgreSQL backend share: a schema, its connections, commits, wake-ups."""

__all__: list[str] = []
