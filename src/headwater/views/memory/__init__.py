"""Views in memory."""

from headwater.views.memory.store import MemoryViewStore

__all__ = ["MemoryViewStore"]
