"""Engines: which package opens the stores and buses of which URL scheme."""

from headwater.engines.by_scheme import Engine, Engines

__all__ = ["Engine", "Engines"]
