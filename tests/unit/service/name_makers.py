"""Makes what a service is made of, by name."""

from collections.abc import Callable
from typing import Annotated, Any

from headwater.errors import Rejection
from headwater.messages import Command, Event, Query, Tag, route, wire
from headwater.modelling import (
    Aggregate,
    DecisionModel,
    Effects,
    EventHandlers,
    Projection,
    Saga,
    command_handler,
    event_handler,
    event_sourcing_handler,
    query_handler,
    rejection_handler,
    saga_handler,
)
from headwater.views import Key, View

MODULE = f"{__package__}.test_names"  # whose messages name what is made here


class Opened(Event):
    id: str


class Open(Command):
    id: str


class Row(View):
    id: Annotated[str, Key]


class Account(Aggregate):
    @command_handler(creates=True)
    def open(self, command: Open) -> Opened:
        return Opened(command.id)

    @event_sourcing_handler
    def opened(self, event: Opened) -> None: ...


def aggregate(name: str, /, **options: Any) -> type[Aggregate]:
    return type(name, (Aggregate,), {"__module__": MODULE, **options})


def model(name: str, /, **options: Any) -> type[DecisionModel]:
    fields = {"__annotations__": {"id": Annotated[str, Tag]}, "id": ""}
    return type(name, (DecisionModel,), {"__module__": MODULE, **fields, **options})


def projection(name: str, view: type[View] = Row, /, **options: Any) -> type[Projection]:
    class Made(Projection):
        view_types = (view,)

        @event_handler
        async def opened(self, event: Opened) -> None: ...

    return type(name, (Made,), {"__module__": MODULE, **options})


def handlers(name: str, /, **options: Any) -> type[EventHandlers]:
    return type(name, (EventHandlers,), {"__module__": MODULE, **options})


def saga(name: str, /, **options: Any) -> type[Saga]:
    class Made(Saga):
        @saga_handler(key="id", starts=True)
        def opened(self, event: Opened) -> Effects: ...

    return type(name, (Made,), {"__module__": MODULE, **options})


def view(name: str, /, **options: Any) -> type[View]:
    fields = {"__annotations__": {"id": Annotated[str, Key]}}
    return type(name, (View,), {"__module__": MODULE, **fields, **options})


def command(name: str, path: str = "", wired: str = "", aliases: tuple[str, ...] = ()) -> Any:
    made: Any = type(name, (Command,), {"__module__": MODULE, "__annotations__": {"id": str}})
    made = wire(wired or name, aliases=aliases)(made)
    return route(path)(made) if path else made


def query(name: str, path: str = "", wired: str = "") -> Any:
    class Made(Query[int]):
        id: str = ""

    made: Any = type(name, (Made,), {"__module__": MODULE})
    made = wire(wired or name)(made)
    return route(path)(made) if path else made


def event(name: str, wired: str = "", aliases: tuple[str, ...] = (), source: str = "") -> Any:
    made: Any = type(name, (Event,), {"__module__": MODULE, "__annotations__": {"id": str}})
    return wire(wired or name, aliases=aliases, source=source)(made)


def derived(name: str, wired: str) -> Any:
    """Return an event that another one of this name derives from."""
    base = event(f"{name}Base")
    wire(wired)(type(name, (base,), {"__module__": MODULE, "__qualname__": name}))
    return base


def deciding(name: str, *commands: type[Command]) -> type[Aggregate]:
    """Return an aggregate with a handler for each of these commands."""

    def handler(cls: Any) -> Any:
        def handle(self: Any, command: cls) -> None: ...

        return command_handler(handle)

    return aggregate(name, **{f"on_{n}": handler(cls) for n, cls in enumerate(commands)})


def answering(name: str, *queries: Any) -> type[Projection]:
    """Return a projection with a handler for each of these queries."""

    def handler(cls: Any) -> Any:
        async def answer(self: Any, query: cls) -> int: ...

        return query_handler(answer)

    made = {f"on_{n}": handler(cls) for n, cls in enumerate(queries)}
    return type(name, (Projection,), {"__module__": MODULE, **made})


def sourced(name: str, *events: type[Event]) -> type[Aggregate]:
    """Return an aggregate that is changed by these events."""

    def handler(cls: Any) -> Any:
        def change(self: Any, event: cls) -> None: ...

        return event_sourcing_handler(change)

    return aggregate(name, **{f"on_{n}": handler(cls) for n, cls in enumerate(events)})


def returning(name: str, returned: Any, cls: type[Command] = Open) -> type[Aggregate]:
    """Return an aggregate whose command handler says what it returns."""

    def handle(self: Any, command: cls) -> returned: ...

    return aggregate(name, handle=command_handler(handle))


def following(name: str, *events: type[Event], source: str = "store") -> type[EventHandlers]:
    """Return event handlers of these events."""

    def handler(cls: Any) -> Any:
        async def handle(self: Any, event: cls) -> None: ...

        return event_handler(handle)

    made = {f"on_{n}": handler(cls) for n, cls in enumerate(events)}
    return handlers(name, source=source, **made)


def refusing(name: str, cls: Any, error: type[Rejection]) -> type[Aggregate]:
    """Return an aggregate that refuses a command with an error."""

    def handle(self: Any, command: cls) -> None:
        raise error

    return aggregate(name, handle=command_handler(handle))


def rejection(name: str, code: str, **fields: Any) -> type[Rejection]:
    made = {"__module__": MODULE, "__annotations__": fields, "code": code}
    return type(name, (Rejection,), made)


def taking(error: type[Rejection]) -> Callable[..., Effects]:
    """Return a saga's handler of an error."""

    def refused(self: Any, command: Open, rejection: error) -> Effects: ...  # type: ignore[valid-type]  # made here

    return rejection_handler(refused)
