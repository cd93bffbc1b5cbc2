"""What rooms with a SQLite backend share: a file, its threads, its clock, wake-ups."""

__all__: list[str] = []
