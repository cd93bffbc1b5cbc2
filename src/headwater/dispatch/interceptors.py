"""Interceptors: what surrounds the handling of every command or query.

An interceptor is ``async def name(message, proceed)``; it may look at the message, refuse it by
raising, change it, and look at the outcome. With `intercepts` it is for some messages only.
Outermost first, a service uses: its metrics, `logging_commands` and the authorization hook. Then a
command's idempotency key is looked up: what was carried out before is answered there. Then come
`Validating` and the service's own.
"""

import contextlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, get_args, get_origin, overload

import structlog

from headwater.dispatch.api import (
    CommandInterceptor,
    CommandMessage,
    CommandNext,
    CommandResult,
    QueryInterceptor,
    QueryMessage,
    QueryNext,
)
from headwater.errors import DeclarationError, HeadwaterError, Rejection
from headwater.messages import Command, Principal, Query, current, handling, message_type
from headwater.messages.codec import message_form
from headwater.messages.hints import alternatives
from headwater.messages.inheritance import annotations_of
from headwater.messages.stored_form import StoredForm

C = TypeVar("C", bound=Command)
Q = TypeVar("Q", bound=Query[Any])
Authorize = Callable[[Command | Query[Any], Principal], Awaitable[None] | None]

_TYPES = "__headwater_intercepts__"
_BASES: dict[Any, type] = {CommandMessage: Command, QueryMessage: Query}
_PURE = "__headwater_pure__"
_log = structlog.get_logger("headwater.dispatch")


@overload
def intercepts(
    function: Callable[[CommandMessage[C], CommandNext], Awaitable[CommandResult]], /
) -> CommandInterceptor: ...
@overload
def intercepts(
    function: Callable[[QueryMessage[Q], QueryNext], Awaitable[Any]], /
) -> QueryInterceptor: ...
def intercepts(function: Any, /) -> Any:
    """Let an interceptor be for the messages that its first parameter is annotated with.

    ::

        @intercepts
        async def checked(message: CommandMessage[Pay], proceed: CommandNext) -> CommandResult: ...

    The others never pass through it. ``CommandMessage[Pay | Refund]`` is for both, a base class
    for all that derive from it, ``QueryMessage[GetAccount]`` for a query.

    Raises:
        DeclarationError: the annotation is no `CommandMessage` or `QueryMessage`, or of what is
            no command or query.
    """
    types = _intercepted(function)
    if not types:
        raise _unclear(function, "does not say which messages it intercepts")
    setattr(function, _TYPES, types)
    return function


def applies_to(interceptor: Callable[..., Any], message: type) -> bool:
    """Whether an interceptor is meant for a message type.

    Raises:
        DeclarationError: it is annotated for some messages, and not marked with `intercepts`.
    """
    types: tuple[type, ...] | None = getattr(interceptor, _TYPES, None)
    if types is not None:
        return issubclass(message, types)
    if inspect.isfunction(interceptor):
        meant: tuple[type, ...] = ()
        with contextlib.suppress(DeclarationError):  # then it says nothing that counts
            meant = _intercepted(interceptor)
        if set(meant) - {Command, Query}:
            raise _unclear(interceptor, "would be called for all messages")
    return True


def _intercepted(function: Callable[..., Any]) -> tuple[type, ...]:
    """Return the message types that the first parameter of a function is annotated with."""
    name = next(iter(inspect.signature(function).parameters), "")
    found: list[type] = []
    for hint, _ in alternatives(annotations_of(function).get(name, Any)):
        base = _BASES.get(get_origin(hint) or hint)
        if base is None:
            continue
        for kind, _ in alternatives((*get_args(hint), base)[0]):
            cls = get_origin(kind) or kind
            if not (isinstance(cls, type) and issubclass(cls, base)):
                raise _unclear(function, f"names {kind!r}, which is no {base.__name__}")
            found.append(cls)
    return tuple(found)


def _unclear(function: Any, reason: str) -> DeclarationError:
    return DeclarationError(
        subject=f"interceptor {getattr(function, '__qualname__', function)}",
        reason=f"{reason}: expected @intercepts on async def name(message: "
        "CommandMessage[SomeCommand], proceed: CommandNext), or the same with a query",
    )


def is_pure(interceptor: Callable[..., Any]) -> bool:
    """Whether an interceptor has no effects and looks at nothing but the message.

    Then it does no harm before the message's idempotency key was looked up.
    """
    return getattr(interceptor, _PURE, False)


class Validating:
    """Checks that a command's content is what its class declares, constraints included.

    Messages from the network were checked when they were decoded, but for one thing: that no
    whole number has more than 64 bits, unless it is declared `BigInt`. And this covers those made
    by the program itself, where nothing else enforces ``Annotated[int, Meta(gt=0)]``.
    """

    __headwater_pure__ = True

    def __init__(self) -> None:
        """Start with no forms; each is made at the first command of its type."""
        self._forms: dict[type, StoredForm] = {}

    def __call__(self, message: CommandMessage, proceed: CommandNext) -> Awaitable[CommandResult]:
        """Validate, then proceed.

        Raises:
            MalformedMessage: a value is not of the declared type or breaks a constraint.
        """
        kind = type(message.command)
        form = self._forms.get(kind)
        if form is None:
            form = self._forms[kind] = message_form(kind)
        form.validate(message.command)
        return proceed(message)


async def logging_commands(message: CommandMessage, proceed: CommandNext) -> CommandResult:
    """Log refusals (info) and failures (warning) with the command's name and correlation id."""
    try:
        return await proceed(message)
    except HeadwaterError as error:
        kind = message_type(type(message.command))
        level = _log.info if isinstance(error, Rejection) else _log.warning
        level(
            "command refused" if isinstance(error, Rejection) else "command failed",
            command=kind.name,
            target=kind.target_of(message.command),
            correlation_id=message.metadata.correlation_id,
            code=error.code,
            error=str(error),
        )
        raise


async def in_context(message: CommandMessage, proceed: CommandNext) -> CommandResult:
    """Make the command the current context for interceptors that call other services."""
    with handling(message.metadata):
        return await proceed(message)


setattr(in_context, _PURE, True)


async def query_in_context(message: QueryMessage, proceed: QueryNext) -> Any:
    """Make the query the current context for handlers that call other services."""
    with handling(message.metadata):
        return await proceed(message)


def authorizing(authorize: Authorize, *, itself: Principal) -> Any:
    """Return an interceptor for both buses that asks a hook, which raises to refuse.

    The hook gets the message and who asks, and raises `Unauthenticated` or `Forbidden`; it may be
    async. What no request has led to (a saga's commands, what handlers of events send) is asked by
    the service ``itself``.
    """

    async def interceptor(message: Any, proceed: Any) -> Any:
        subject = message.command if isinstance(message, CommandMessage) else message.query
        context = current()
        principal = itself if context is None else context.principal or itself
        verdict = authorize(subject, principal)
        if verdict is not None:
            await verdict
        return await proceed(message)

    return interceptor
