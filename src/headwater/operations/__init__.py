"""What can be done with a system and what it stores: looked at, replayed, rebuilt, copied, mended.

A system is what its ``headwater.toml`` describes. Each module is one thing that can be done; its
functions answer with structs and print nothing, so that the command line, a page and a program do
the same in the same way.
"""

__all__: list[str] = []
