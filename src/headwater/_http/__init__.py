"""What everything that speaks HTTP shares: running an ASGI app, problem documents, event streams.

The names load when they are used, so that a client does not import a server's libraries.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater._http.problems import problem_handlers, problem_of, read_json
    from headwater._http.server import AsgiServer

_HOMES = {
    "AsgiServer": "headwater._http.server",
    "problem_handlers": "headwater._http.problems",
    "problem_of": "headwater._http.problems",
    "read_json": "headwater._http.problems",
}


def __getattr__(name: str) -> Any:
    """Load a name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


__all__ = ["AsgiServer", "problem_handlers", "problem_of", "read_json"]
