"""`query_handler`, and finding the handlers that a class declares."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, get_type_hints

from headwater.errors import DeclarationError
from headwater.messages import Query

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


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
    setattr(function, "__headwater_query_handler__", parameters[1])  # noqa: B010  # not typed
    return function


def query_handlers_of(instance: object) -> dict[type[Query[Any]], Callable[[Any], Awaitable[Any]]]:
    """Return an object's bound query handlers by query type.

    Raises:
        DeclarationError: a parameter is not annotated with a query type, or two handlers share one.
    """
    found: dict[type[Query[Any]], Callable[[Any], Awaitable[Any]]] = {}
    for name, function in inspect.getmembers(type(instance), inspect.isfunction):
        parameter = getattr(function, "__headwater_query_handler__", None)
        if parameter is None:
            continue
        kind = get_type_hints(function).get(parameter)
        if not (isinstance(kind, type) and issubclass(kind, Query)) or kind in found:
            raise DeclarationError(
                subject=function.__qualname__,
                reason=f"annotate {parameter!r} with a query type of its own, got {kind!r}",
            )
        found[kind] = getattr(instance, name)
    return found
