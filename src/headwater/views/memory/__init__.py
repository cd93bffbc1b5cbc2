"""Views in memory, for tests and for trying out."""

from headwater.views.engine import ViewStoreEngine
from headwater.views.memory.store import MemoryViewStore


async def _open(_url: str) -> MemoryViewStore:
    return MemoryViewStore()


ENGINE = ViewStoreEngine(open=_open, shared=False)
"""Opens ``memory:``, a new store each time."""

__all__ = ["ENGINE", "MemoryViewStore"]
