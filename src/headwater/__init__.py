"""Headwater: event-driven microservices with CQRS and event sourcing.

Everything that the author of a service needs is here::

    from headwater import Aggregate, Command, Event, Service, command_handler

A name is imported from its room when it is first asked for, so that ``import headwater`` costs
nothing. Authors of engines find more in the rooms: `headwater.eventstore`, `headwater.eventbus`,
`headwater.views`, and so on.
"""

import importlib

__version__ = "0.1.0"

_ROOMS = {  # type checkers and editors read the stub beside this file instead
    "dispatch": (
        "CommandBus CommandMessage CommandNext CommandResult QueryBus QueryMessage QueryNext "
        "intercepts"
    ),
    "errors": "HeadwaterError Rejection",
    "messages": (
        "ANONYMOUS BigInt Command ConsistencyToken Event Metadata Principal Query Tag Target "
        "Upcast current route upcaster wire"
    ),
    "modelling": (
        "Aggregate Cancel Deadline DecisionModel Effects End EventHandlers "
        "EventMessage Events Projection Retry Saga command_handler deadline_handler event_handler "
        "event_sourcing_handler query_handler rejection_handler saga_handler"
    ),
    "service": "EdgeRequest Service",
    "views": (
        "AnyOf FullText In Index Key Prefix Range Sql SqlTable View ViewPage ViewTransaction"
    ),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = [*_ROOM_OF]  # noqa: PLE0604  # strings they are


def __getattr__(name: str) -> object:
    """Import a name from its room."""
    if name not in _ROOM_OF:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    """Name what can be imported, for consoles that complete."""
    return [*__all__, "__version__"]
