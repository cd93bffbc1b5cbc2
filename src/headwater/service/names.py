"""Who has which name in a service. Two of one name would share a table, a stream or a route."""

import re
from collections.abc import Iterator
from typing import Any

from headwater.bridges.inbox import HandledMessage
from headwater.errors import DeclarationError
from headwater.messages import message_type
from headwater.messages.inheritance import qualified
from headwater.modelling.event_handlers import kebab
from headwater.modelling.handler_tables import handler_table
from headwater.modelling.query_handlers import query_handlers_of
from headwater.processing.internal_views import INTERNAL_VIEWS
from headwater.processing.sagas.commands import commands_near
from headwater.processing.scheduling.views import NAME
from headwater.service.declaration import Declaration, task_name
from headwater.service.error_codes import errors_of
from headwater.service.event_names import EventNames, saga_types, state_types
from headwater.service.router import OWN_ROUTES
from headwater.views import view_type
from headwater.views.model import model_name

_PROCESSOR = 'name = "..." in the class'
_SAGA = 'saga_name = "..." in the class'
_STREAM = 'stream_name = "..." in the class'
_VIEW = 'view_name = "..." in the class'
_WIRE = '@wire("...") on the class'
_ROUTE = '@route("...") on the class'
_QUEUE = "another queue, or the handlers of both in one class"
_EXCHANGE = "another exchange, or list it once"
_CODE = 'code = "..." in the class'
_TASK = 'name="..." in background()'
_OURS = "Headwater's own: it cannot be changed"


class Names:
    """The names of one kind, such as those of event streams."""

    def __init__(self, what: str) -> None:
        """Begin with none; ``what`` is said of a name in messages."""
        self._what = what
        self._owners: dict[str, tuple[Any, str, str]] = {}

    def claim(self, name: str, owner: Any, *, remedy: str, shown: str = "") -> None:
        """Let a name belong to a class.

        Args:
            name: the name; compared as it is.
            owner: the class that it belongs to, or what to call it.
            remedy: how to give the class another one.
            shown: the name as its owner wrote it.

        Raises:
            DeclarationError: it belongs to another one.
        """
        known, other, called = self._owners.setdefault(name, (owner, remedy, shown or name))
        if known is owner:
            return
        mine = shown or name
        theirs = "" if mine == called else f" ({called!r})"
        remedies = ", or ".join(dict.fromkeys(r for r in (other, remedy) if r != _OURS))
        raise DeclarationError(
            subject=_called(owner),
            reason=f"has the {self._what} {mine!r}, which {_called(known)} has{theirs}: give one "
            f"of the two another one, {remedies}",
        )


def _called(owner: Any) -> str:
    return owner if isinstance(owner, str) else qualified(owner)


def check_names(service: Declaration) -> EventNames:
    """Check that everything in a service can be told apart by its name; return its events.

    Raises:
        DeclarationError: two have the same name; says which, and how to name one.
    """
    _check_listed(service)
    _check_streams(service)
    _check_processors(service)
    _check_views(service)
    _check_messages(service)
    _check_sent(service)
    _check_codes(service)
    return EventNames(service)


def _check_listed(service: Declaration) -> None:
    seen: set[type] = set()
    for cls in _classes(service):
        if cls in seen:
            reason = f"is listed twice in Service({service.name!r}): list it once"
            raise DeclarationError(subject=qualified(cls), reason=reason)
        seen.add(cls)


def _classes(service: Declaration) -> Iterator[type]:
    yield from service.aggregates
    yield from service.decisions
    yield from map(type, service.projections)
    yield from map(type, service.handlers)
    yield from service.sagas


def _check_streams(service: Declaration) -> None:
    names = Names("stream name")
    for kind in state_types(service):
        names.claim(kind.name, kind.cls, remedy=_STREAM)


def _check_processors(service: Declaration) -> None:
    names, sagas, queues = Names("processor name"), Names("saga name"), Names("queue")
    relay = f"relay-{service.name}"
    if service.aggregates or service.decisions:
        names.claim(relay, f"the relay of service {service.name!r}", remedy=_OURS)
    if service.scheduling:
        names.claim(NAME, f"what sends commands later in {service.name!r}", remedy=_OURS)
    for task in service.tasks:
        names.claim(task_name(task), f"the background task {task!r}", remedy=_TASK)
    for handlers in (*service.projections, *service.handlers):
        names.claim(handlers.name, type(handlers), remedy=_PROCESSOR)
        if not isinstance(handlers.source, str):
            queues.claim(handlers.source.place, type(handlers), remedy=_QUEUE)
    for publisher in service.publishers:
        names.claim(publisher.name, repr(publisher), remedy=_EXCHANGE)
    for saga in saga_types(service):
        names.claim(kebab(saga.name), saga.cls, remedy=_SAGA, shown=saga.name)
        for other in saga_types(service):
            if saga.name.startswith(f"{other.name}/"):  # what follows the slash is a saga's id
                sagas.claim(other.name, other.cls, remedy=_SAGA)
                sagas.claim(other.name, saga.cls, remedy=_SAGA, shown=saga.name)


def _check_views(service: Declaration) -> None:
    names = Names("table name")
    for kind in map(view_type, (*INTERNAL_VIEWS, HandledMessage)):
        names.claim(kind.name.casefold(), kind.cls, remedy=_OURS, shown=kind.name)
    for handlers in (*service.projections, *service.handlers):
        for model in handler_table(type(handlers)).views:
            name = model_name(model)
            names.claim(name.casefold(), model, remedy=_VIEW, shown=name)


def _check_messages(service: Declaration) -> None:
    """Check commands and queries: one handler each, and names and routes of their own."""
    owners: dict[type, type] = {}
    names = {"command": Names("command name"), "query": Names("query name")}
    routes = Names("route")
    _claim_other_routes(service, routes)
    for message, cls in _handled(service):
        if (other := owners.setdefault(message, cls)) is not cls:
            reason = f"handles {qualified(message)}, as {qualified(other)} does: remove one handler"
            raise DeclarationError(subject=qualified(cls), reason=reason)
        kind = message_type(message)
        for name in kind.names:
            names[kind.kind].claim(name, message, remedy=_WIRE)
        _claim_route(routes, kind.route.method, kind.route.path, message, remedy=_ROUTE)


def _claim_other_routes(service: Declaration, routes: Names) -> None:
    for path in OWN_ROUTES:
        _claim_route(routes, "GET", path, "a route of every service", remedy=_OURS)
    for handler in service.routes:
        owner = qualified(getattr(handler, "fn", handler))
        for path in getattr(handler, "paths", ()):
            for method in getattr(handler, "http_methods", ()):
                _claim_route(routes, method, path, owner, remedy="its path")


def _claim_route(routes: Names, method: str, path: str, owner: Any, *, remedy: str) -> None:
    """Claim a route: a path without the names of parameters and without empty segments."""
    parts = [re.sub("{.*}", "{}", part) for part in path.split("/") if part]
    verb = str(getattr(method, "value", method))
    routes.claim(f"{verb} /{'/'.join(parts)}", owner, remedy=remedy, shown=f"{verb} {path}")


def _check_sent(service: Declaration) -> None:
    """Check that the stored commands of a saga can be found again by their names."""
    for saga in service.sagas:
        names = Names("command name")
        for command in commands_near(saga):
            for name in message_type(command).names:
                names.claim(name, command, remedy=_WIRE)


def _handled(service: Declaration) -> Iterator[tuple[type, type]]:
    """Yield the commands and queries that are handled, each with the class that does."""
    for kind in state_types(service):
        for command in kind.commands:
            yield command, kind.cls
    for answering in (*service.projections, *service.handlers):
        for query in query_handlers_of(answering):
            yield query, type(answering)


def _check_codes(service: Declaration) -> None:
    names = Names("error code")
    known: dict[str, type] = {}
    handled = [error for s in saga_types(service) for h in s.rejections for error in h.errors]
    seen = errors_of([*_classes(service), *(message for message, _ in _handled(service))])
    for error in (*seen, *handled):
        other = known.setdefault(error.code, error)
        if qualified(other) != qualified(error):  # else it was defined again
            names.claim(error.code, other, remedy=_CODE)
            names.claim(error.code, error, remedy=_CODE)
