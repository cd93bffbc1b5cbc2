"""`query_handler`, and finding the handlers that a class declares."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from headwater.errors import DeclarationError
from headwater.messages import Query
from headwater.messages.inheritance import handlers_of, qualified

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

_QUERY = "__headwater_query_handler__"


def query_handler(function: F) -> F:
    """Mark an async method as the handler of the query type that its parameter is annotated with.

    Raises:
        DeclarationError: it is not ``async def handler(self, query: SomeQuery) -> Answer``.
    """
    parameters = list(inspect.signature(function).parameters)
    is_async: bool = inspect.iscoroutinefunction(function)
    if not is_async or len(parameters) != 2:
        raise DeclarationError(
            subject=function.__qualname__,
            reason="a query handler is: async def name(self, query: SomeQuery) -> Answer",
        )
    setattr(function, _QUERY, True)
    return function


def query_handlers_of(instance: object) -> dict[type[Query[Any]], Callable[[Any], Awaitable[Any]]]:
    """Return an object's bound query handlers by query type.

    Raises:
        DeclarationError: a parameter is not annotated with a query type, or two handlers share one.
    """
    found: dict[type[Query[Any]], Callable[[Any], Awaitable[Any]]] = {}
    for method in handlers_of(type(instance), _QUERY):
        parameter = method.parameters[0]
        kind = method.hints.get(parameter)
        own = f"annotate {parameter!r} with a query type of its own"
        if not (isinstance(kind, type) and issubclass(kind, Query)):
            reason = f"{own}, got {kind!r}"
            raise DeclarationError(subject=qualified(method.function), reason=reason)
        if kind in found:
            reason = f"{own}, {kind.__name__} has a handler already, {qualified(found[kind])}"
            raise DeclarationError(subject=qualified(method.function), reason=reason)
        found[kind] = getattr(instance, method.name)
    return found
