"""What answers instead of a service that is away."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from headwater.client.endpoints import Endpoint
from headwater.errors import (
    DeadlineExceeded,
    DeclarationError,
    HeadwaterError,
    RemoteError,
    StoreError,
    Unavailable,
    Unexpected,
)


def falls_back(error: HeadwaterError) -> bool:
    """Whether an error means away, too late or broken, rather than an answer such as "no"."""
    if isinstance(error, RemoteError):
        return not 400 <= error.remote_status < 500
    return isinstance(error, Unavailable | DeadlineExceeded | Unexpected | StoreError)


def check_fallback(cls: type, endpoints: Mapping[str, Endpoint], fallback: Any) -> None:
    """Check that a fallback can stand in for a client.

    Raises:
        DeclarationError: it is no class, a method is missing, cannot take the same arguments, or
            is not async where the client's is; or its constructor needs more than the cause.
    """
    if not isinstance(fallback, type):
        reason = f"fallback={fallback!r} must be a class with the same methods"
        raise DeclarationError(subject=cls.__name__, reason=reason)
    subject = f"{fallback.__name__}, fallback of {cls.__name__}"
    for name, endpoint in endpoints.items():
        function = getattr(fallback, name, None)
        if not callable(function):
            raise DeclarationError(subject=subject, reason=f"lacks the method {name!r}")
        mine, theirs = _names(function), _names(endpoint.signature)
        if mine != theirs:
            reason = f"{name} takes {mine}, expected {theirs}"
            raise DeclarationError(subject=subject, reason=reason)
        if endpoint.items is None and not inspect.iscoroutinefunction(function):
            raise DeclarationError(subject=subject, reason=f"{name} must be async def")
        if endpoint.items is not None and inspect.iscoroutinefunction(function):
            reason = f"{name} must be an async generator, or a def that returns one"
            raise DeclarationError(subject=subject, reason=reason)
    if len(_needed(fallback)) > 1:
        reason = f"its constructor needs {_needed(fallback)}, expected nothing or the cause"
        raise DeclarationError(subject=subject, reason=reason)


def fallback_factory(fallback: type) -> Callable[[HeadwaterError], Any]:
    """Return what makes the fallback for an error; one instance serves all if it takes none."""
    if _takes_cause(fallback):
        return fallback
    one = fallback()
    return lambda _: one


def _takes_cause(fallback: type) -> bool:
    if fallback.__init__ is object.__init__:  # type: ignore[misc]  # only compared, not called
        return False
    parameters = list(inspect.signature(fallback).parameters.values())
    return bool(parameters) and parameters[0].kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )


def _needed(fallback: type) -> list[str]:
    empty, variadic = inspect.Parameter.empty, (
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    )  # fmt: skip
    return [
        p.name
        for p in inspect.signature(fallback).parameters.values()
        if p.default is empty and p.kind not in variadic
    ]


def _names(of: Any) -> list[str]:
    signature = of if isinstance(of, inspect.Signature) else inspect.signature(of)
    return list(signature.parameters)[1:]
