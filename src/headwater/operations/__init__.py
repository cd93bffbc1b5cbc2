"""What can be done with a system and what it stores; answers are structs, nothing is printed."""

__all__: list[str] = []
