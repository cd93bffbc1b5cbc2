"""How a REST client is declared: a Protocol class, and a verb on each of its methods."""

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec

from headwater.client.endpoints import Endpoint, compile_endpoint
from headwater.client.fallbacks import check_fallback
from headwater.client.marks import Method
from headwater.errors import DeclarationError

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])
Role = Literal["command", "query", ""]

_METHOD = "__headwater_method__"
_CLIENT = "__headwater_client__"


class Verb:
    """A decorator that gives a method its HTTP verb and path: ``@get("/{id}", timeout_s=2.0)``."""

    def __init__(self, verb: str, role: Role) -> None:
        """State the verb, and which side of a service answers it by default."""
        self._verb = verb
        self._role = role

    def __call__(
        self,
        path: str,
        *,
        timeout_s: float = 10.0,
        retries: int = 0,
        hedge_s: float = 0.0,
        idempotent: bool = False,
        routing_key: str = "",
        role: Role | None = None,
    ) -> Callable[[F], F]:
        """Declare a method; what is wrong with it is told when its class is declared.

        Args:
            path: appended to the client's ``path``; names in braces are parameters. ``"/"``
                alone is the client's path itself.
            timeout_s: for the call with all its retries; an earlier deadline of the caller wins.
            retries: further attempts, made only where safe (see `HttpCaller.call`).
            hedge_s: ask a second instance after so long, and take the first answer (GET, HEAD).
            idempotent: the call may be carried out twice, whatever its verb says.
            routing_key: the parameter whose value keeps calls on one instance.
            role: the side of the service that answers: the query side for GET and HEAD, else the
                command side, unless stated; ``""`` is any.
        """
        side = self._role if role is None else role
        method = Method(
            self._verb, path, timeout_s, retries, hedge_s, idempotent, routing_key, side
        )

        def declare(function: F) -> F:
            setattr(function, _METHOD, method)
            return function

        return declare


get: Verb = Verb("GET", "query")
head: Verb = Verb("HEAD", "query")
post: Verb = Verb("POST", "command")
put: Verb = Verb("PUT", "command")
patch: Verb = Verb("PATCH", "command")
delete: Verb = Verb("DELETE", "command")


class Declaration(msgspec.Struct, frozen=True):
    """Everything known about one declared client, computed once."""

    name: str
    service: str
    url: str
    endpoints: dict[str, Endpoint]
    fallback: type | None


def client(
    service: str = "", *, path: str = "", url: str = "", fallback: type | None = None
) -> Callable[[C], C]:
    """Declare that a Protocol class describes the HTTP interface of a service or a server.

    Args:
        service: a name, resolved through discovery at each call.
        path: put before the path of every method.
        url: base URL of any REST server, instead of a service.
        fallback: a class with the same methods; it answers when the service is away, too late
            or broken (see `connect`). Its constructor may take the error as its one argument.

    Raises:
        DeclarationError: both or neither of service and url are given; a public method has no
            verb, or cannot work (see `compile_endpoint`); or the fallback lacks a method.
    """

    def declare(cls: C) -> C:
        if bool(service) == bool(url):
            reason = "@client needs either a service name or url=..."
            raise DeclarationError(subject=cls.__name__, reason=reason)
        if path and (not path.startswith("/") or path.endswith("/")):
            reason = f"path={path!r} must start with / and not end with it"
            raise DeclarationError(subject=cls.__name__, reason=reason)
        endpoints = {
            name: compile_endpoint(function, _method_of(cls, name, function), prefix=path)
            for name, function in _functions(cls).items()
        }
        if not endpoints:
            raise DeclarationError(subject=cls.__name__, reason="has no method with @get, @post...")
        if fallback is not None:
            check_fallback(cls, endpoints, fallback)
        setattr(cls, _CLIENT, Declaration(cls.__name__, service, url, endpoints, fallback))
        return cls

    return declare


def declaration_of(cls: Any) -> Declaration:
    """Return what `client` noted on a class.

    Raises:
        DeclarationError: the class itself is not decorated.
    """
    found = vars(cls).get(_CLIENT) if isinstance(cls, type) else None
    if not isinstance(found, Declaration):
        name = getattr(cls, "__name__", repr(cls))
        raise DeclarationError(subject=name, reason="is not a client: decorate it with @client")
    return found


def _functions(cls: type) -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for base in reversed(cls.__mro__):
        found |= {
            name: value
            for name, value in vars(base).items()
            if inspect.isfunction(value) and not name.startswith("_")
        }
    return found


def _method_of(cls: type, name: str, function: Callable[..., Any]) -> Method:
    method = getattr(function, _METHOD, None)
    if not isinstance(method, Method):
        raise DeclarationError(
            subject=f"{cls.__name__}.{name}",
            reason="has no verb: decorate it with @get, @post, @put, @patch, @delete or @head",
        )
    return method
