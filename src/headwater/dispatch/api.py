"""The command bus and the query bus: one call, wherever the handler is."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from headwater.errors import HeadwaterError
from headwater.messages import Command, ConsistencyToken, Metadata, Query, message_type

R = TypeVar("R")
if TYPE_CHECKING:  # with defaults, so that a message of any kind needs no brackets
    from typing_extensions import TypeVar as AnyTypeVar

    C_co = AnyTypeVar("C_co", bound=Command, covariant=True, default=Command)
    Q_co = AnyTypeVar("Q_co", bound=Query[Any], covariant=True, default=Query[Any])
else:
    C_co = TypeVar("C_co", bound=Command, covariant=True)
    Q_co = TypeVar("Q_co", bound=Query[Any], covariant=True)
_encode = msgspec.json.Encoder().encode


class CommandResult(msgspec.Struct, frozen=True, gc=False):
    """What a command did, told when it is durable.

    Attributes:
        id: the id of the aggregate that handled it.
        version: the version of its stream afterwards.
        token: the consistency token from which its effects are visible (see `ConsistencyToken`).
        duplicate: its idempotency key was known, and this is the outcome of the first time.
    """

    id: str
    version: int
    token: str
    duplicate: bool = False


class CommandMessage(msgspec.Struct, Generic[C_co], frozen=True, gc=False):
    """A command on its way, with what interceptors and handlers may want to know.

    ``fingerprint`` identifies the content as the caller sent it, for the idempotency key: what
    interceptors make of it does not count. The bus sets it when there is a key.
    ``expected_version`` is the version that the sender has seen; at another one the command is a
    `ConcurrencyConflict` and not decided. With ``keep_refusal`` a refusal is an outcome, too: it is
    stored under the key, and whoever sends the command again with it is refused alike.
    """

    command: C_co
    metadata: Metadata
    idempotency_key: str = ""
    fingerprint: str = ""
    expected_version: int | None = None
    keep_refusal: bool = False


def fingerprint_of(command: Command) -> str:
    """Return what identifies a command's content: a BLAKE2b digest of its name and JSON."""
    content = message_type(type(command)).name.encode() + b"\0" + _encode(command)
    return hashlib.blake2b(content, digest_size=16).hexdigest()


class QueryMessage(msgspec.Struct, Generic[Q_co], frozen=True):
    """A query on its way. ``token`` is what its answer must have seen."""

    query: Q_co
    metadata: Metadata
    token: ConsistencyToken | None = None


CommandNext = Callable[[CommandMessage], Awaitable[CommandResult]]
QueryNext = Callable[[QueryMessage], Awaitable[Any]]
CommandInterceptor = Callable[[CommandMessage, CommandNext], Awaitable[CommandResult]]
QueryInterceptor = Callable[[QueryMessage, QueryNext], Awaitable[Any]]


class LookUp(Protocol):
    """Finds out what was stored under the idempotency key of a command."""

    async def __call__(
        self,
        message: CommandMessage,
        *,
        settled: bool = False,
        refusal: HeadwaterError | None = None,
    ) -> CommandResult | None:
        """Return the outcome of the first time, marked as a duplicate; None without one.

        With ``settled`` whatever this process submitted before is carried out, or has failed,
        before the key is looked up. A ``refusal`` is stored under the key if nothing is yet.

        Raises:
            HeadwaterError: the outcome of the first time is this refusal.
            IdempotencyKeyReused: the key was used for another command.
            StoreUnavailable: the store cannot be asked.
        """


class KeyedHandler(NamedTuple):
    """A command handler, and how to find out what it stored under an idempotency key."""

    handle: CommandNext
    look_up: LookUp


class CommandBus(Protocol):
    """Brings each command to the one handler responsible for it."""

    async def send(
        self,
        command: Command,
        *,
        idempotency_key: str = "",
        expected_version: int | None = None,
        keep_refusal: bool = False,
    ) -> CommandResult:
        """Send a command; return when its events are durable.

        With ``expected_version`` it is only decided while the aggregate is at that version, 0
        for one that does not exist.

        Idempotency: of all sends of a command under one key at most one is carried out; every
        other gets its outcome, or was refused before it. Sends in one process wait for the one
        under way. The key is looked up after authorization and before the service's own
        interceptors, and again before a refusal or a fault is told. A refusal is not kept: a
        command that was refused may be sent again with its key, and be carried out. (So may one
        of two sends at once in two processes: refused in one and then, as the state has changed,
        carried out in the other; never the other way round.) With ``keep_refusal`` what a handler
        refuses is kept under the key as any outcome, so that whoever acts on the refusal can
        rely on it: no send that is still on its way is carried out any more. An empty key is none.

        Cancellation leaves it open whether the command is carried out; who sends it again with
        its key finds out.

        Raises:
            MalformedMessage: the content is not what the command declares, or the key is none
                (1 to 500 characters, no control characters, not blank, no spaces at its ends).
            Rejection: the domain refused (the domain's own subclass, also across the network).
            AggregateNotFound, AggregateExists: the target is not as the command assumes.
            ConcurrencyConflict: the aggregate is not at the expected version; or others were
                faster, more often than the bus retries.
            IdempotencyKeyReused: the key was used for another command.
            UnknownMessage: nobody handles the command.
            Unavailable: the handler's instances or its store are away (`NoInstance`, ...).
            DeadlineExceeded: the time allowed has passed; the command may have been carried out.
        """


class QueryBus(Protocol):
    """Brings each query to a handler."""

    async def ask(self, query: Query[R], *, token: ConsistencyToken | str | None = None) -> R:
        """Ask; with a token the answer includes everything up to it.

        Raises:
            NotFound: what was asked for does not exist.
            NotCaughtUp: the views did not reach the token in time.
            EventParked: the views cannot show what the token names, as it waits for an operator.
            TokenMismatch: the token is from a store that was replaced.
            UnknownMessage, Unavailable, DeadlineExceeded: as for commands.
        """
