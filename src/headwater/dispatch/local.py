"""The buses inside one process: tables of handlers, and interceptors woven in once at start."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from headwater.dispatch.api import (
    CommandInterceptor,
    CommandMessage,
    CommandNext,
    CommandResult,
    KeyedHandler,
    QueryInterceptor,
    QueryMessage,
    QueryNext,
    fingerprint_of,
)
from headwater.dispatch.deduplication import Deduplication
from headwater.dispatch.interceptors import applies_to, is_pure
from headwater.errors import DeclarationError, MalformedMessage, UnknownMessage
from headwater.messages import Command, ConsistencyToken, Query, message_type, new_metadata
from headwater.messages.idempotency import check_key

R = TypeVar("R")
QueryHandler = Callable[[Any], Awaitable[Any]]


class LocalCommandBus:
    """Hands each command to its handler in this process, through the interceptors.

    A command that comes with an idempotency key is carried out once: see `CommandBus.send`.
    """

    def __init__(
        self,
        handlers: Iterable[Mapping[type[Command], CommandNext | KeyedHandler]],
        *,
        always: Sequence[CommandInterceptor] = (),
        interceptors: Sequence[CommandInterceptor] = (),
    ) -> None:
        """Build the table; the first interceptor is the outermost.

        Args:
            handlers: by command type.
            always: surround every send, also one that is answered by its idempotency key.
            interceptors: surround, inside of those, what is carried out.

        Raises:
            DeclarationError: two handlers for one command.
        """
        self._deduplication = Deduplication()
        self._chains: dict[type[Command], CommandNext] = {}
        for mapping in handlers:
            for command, handler in mapping.items():
                if command in self._chains:
                    raise DeclarationError(
                        subject=command.__name__, reason="has two handlers: remove one"
                    )
                inner = [i for i in interceptors if applies_to(i, command)]
                chain = self._once(inner, handler)
                outer = [i for i in always if applies_to(i, command)]
                self._chains[command] = _weave_commands(outer, chain)

    def _once(
        self, interceptors: list[CommandInterceptor], handler: CommandNext | KeyedHandler
    ) -> CommandNext:
        """Return the chain that takes care of keys: those that come, and those that are given."""
        handle, look_up = handler if isinstance(handler, KeyedHandler) else (handler, None)
        step = self._deduplication.step
        if all(map(is_pure, interceptors)):
            return step(_weave_commands(interceptors, handle), look_up, eager=False)
        handle = step(handle, look_up, eager=False)  # an interceptor may give a key, or another
        return step(_weave_commands(interceptors, handle), look_up, eager=True)

    @property
    def commands(self) -> tuple[type[Command], ...]:
        """The command types handled here."""
        return tuple(self._chains)

    def handles(self, command: type) -> bool:
        """Whether commands of this type are handled here."""
        return command in self._chains

    async def send(
        self,
        command: Command,
        *,
        idempotency_key: str = "",
        expected_version: int | None = None,
        keep_refusal: bool = False,
    ) -> CommandResult:
        """Send a command (see `CommandBus.send`)."""
        return await self._handled(
            CommandMessage(
                command,
                new_metadata(),
                idempotency_key,
                expected_version=expected_version,
                keep_refusal=keep_refusal,
            )
        )

    async def dispatch(self, message: CommandMessage) -> CommandResult:
        """Send a command that has its metadata already.

        Raises:
            UnknownMessage: nobody handles it here; and what `CommandBus.send` raises.
        """
        return await self._handled(message)

    def _handled(self, message: CommandMessage) -> Awaitable[CommandResult]:
        chain = self._chains.get(type(message.command))
        if chain is None:
            raise UnknownMessage(name=message_type(type(message.command)).name)
        if message.idempotency_key:
            check_key(message.idempotency_key)
            if not message.fingerprint:
                message = _with_fingerprint(message)
        return chain(message)


def _with_fingerprint(message: CommandMessage) -> CommandMessage:
    try:
        fingerprint = fingerprint_of(message.command)
    except Exception as error:
        name = f"command {message_type(type(message.command)).name!r}"
        raise MalformedMessage(name=name, reason=str(error)) from error
    return msgspec.structs.replace(message, fingerprint=fingerprint)


class LocalQueryBus:
    """Hands each query to its handler in this process, once the views have caught up."""

    def __init__(
        self,
        handlers: Iterable[Mapping[type[Query[Any]], QueryHandler]],
        *,
        interceptors: Sequence[QueryInterceptor] = (),
    ) -> None:
        """Build the table; the first interceptor is the outermost.

        Raises:
            DeclarationError: two handlers for one query.
        """
        self._chains: dict[type[Query[Any]], QueryNext] = {}
        for mapping in handlers:
            for query, handler in mapping.items():
                if query in self._chains:
                    raise DeclarationError(
                        subject=query.__name__, reason="has two handlers: remove one"
                    )
                chosen = [i for i in interceptors if applies_to(i, query)]
                self._chains[query] = _weave_queries(chosen, handler)

    @property
    def queries(self) -> tuple[type[Query[Any]], ...]:
        """The query types handled here."""
        return tuple(self._chains)

    def handles(self, query: type) -> bool:
        """Whether queries of this type are handled here."""
        return query in self._chains

    async def ask(self, query: Query[R], *, token: ConsistencyToken | str | None = None) -> R:
        """Ask (see `QueryBus.ask`)."""
        if isinstance(token, str):
            token = ConsistencyToken.decode(token) if token else None
        answer: R = await self.dispatch(QueryMessage(query, new_metadata(), token))
        return answer

    async def dispatch(self, message: QueryMessage) -> Any:
        """Ask a query that has its metadata already.

        Raises:
            UnknownMessage: nobody handles it here; and what `QueryBus.ask` raises.
        """
        chain = self._chains.get(type(message.query))
        if chain is None:
            raise UnknownMessage(name=message_type(type(message.query)).name)
        return await chain(message)


def _weave_commands(interceptors: list[CommandInterceptor], handler: CommandNext) -> CommandNext:
    chain = handler
    for interceptor in reversed(interceptors):
        chain = _link_command(interceptor, chain)
    return chain


def _link_command(interceptor: CommandInterceptor, proceed: CommandNext) -> CommandNext:
    def link(message: CommandMessage) -> Awaitable[CommandResult]:
        return interceptor(message, proceed)

    return link


def _weave_queries(interceptors: list[QueryInterceptor], handler: QueryHandler) -> QueryNext:
    def innermost(message: QueryMessage) -> Awaitable[Any]:
        return handler(message.query)

    chain: QueryNext = innermost
    for interceptor in reversed(interceptors):
        chain = _link_query(interceptor, chain)
    return chain


def _link_query(interceptor: QueryInterceptor, proceed: QueryNext) -> QueryNext:
    def link(message: QueryMessage) -> Awaitable[Any]:
        return interceptor(message, proceed)

    return link
