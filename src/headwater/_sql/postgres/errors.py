"""Errors of PostgreSQL and its driver as errors of ours, each with a remedy."""

import asyncio
import contextlib
from collections.abc import Iterator

import asyncpg

from headwater.errors import (
    DiskFull,
    HeadwaterError,
    InvalidInput,
    Outcome,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
)

CLOSED = "it has been closed: open it again"

LOST: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.InterfaceError,  # the driver's word for a connection that is closed
    asyncpg.InternalClientError,  # and for one that the server has just ended
    OSError,  # TimeoutError is one, too
    asyncio.IncompleteReadError,
)
"""After these the connection is of no use, and it is unknown what became of a commit.

So it is after an error of any other kind that ends the session: see `is_lost`.
"""

Kinds = type[Exception] | tuple[type[Exception], ...]

_UNAVAILABLE: tuple[tuple[Kinds, str], ...] = (
    (
        asyncpg.InvalidPasswordError,
        "the server refuses the user or the password ({error}): correct them in the URL",
    ),
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "the server refuses the user ({error}): correct the URL, or let the user in (pg_hba.conf)",
    ),
    (
        asyncpg.InvalidCatalogNameError,
        "there is no such database ({error}): create it, or correct the URL",
    ),
    (
        asyncpg.InsufficientPrivilegeError,
        "the user lacks a right ({error}): GRANT it, or use another user",
    ),
    (
        asyncpg.ReadOnlySQLTransactionError,
        "the server only allows reading ({error}): connect to the primary",
    ),
    (
        asyncpg.TooManyConnectionsError,
        "the server has no connection left ({error}): open fewer, or raise max_connections",
    ),
    (asyncpg.CannotConnectNowError, "the server is starting or stopping ({error}): retry later"),
    (
        asyncpg.LockNotAvailableError,
        (
            "a lock is held by another transaction for too long ({error}): end that transaction "
            "(see pg_stat_activity for one that is idle), then retry"
        ),
    ),
    (
        asyncpg.QueryCanceledError,
        "the server cancelled the statement ({error}): raise statement_timeout, or retry later",
    ),
    (asyncpg.DeadlockDetectedError, "transactions waited for each other ({error}): retry"),
    (asyncpg.SerializationError, "transactions came in each other's way ({error}): retry"),
    (
        asyncpg.OutOfMemoryError,
        "the server has not enough memory ({error}): free some, then retry",
    ),
    (
        (asyncpg.AdminShutdownError, asyncpg.CrashShutdownError),
        "the server is stopping ({error}): retry when it has started again",
    ),
    (
        TimeoutError,
        "the server did not answer in the time allowed: check that it is well, or retry later",
    ),
    (
        asyncpg.ProtocolViolationError,
        (
            "what answers is not the server itself ({error}): connect to the server, or let the "
            "pooler in between keep sessions (pool_mode=session) and pass over what it does not "
            "know (ignore_startup_parameters)"
        ),
    ),
    (
        (asyncpg.PostgresConnectionError, OSError, asyncio.IncompleteReadError),
        "the server cannot be reached ({error}): check that it runs and the URL, or retry later",
    ),
    (
        (asyncpg.InterfaceError, asyncpg.InternalClientError),
        "the connection broke ({error}): retry",
    ),
)
_CORRUPT: tuple[tuple[Kinds, str], ...] = (
    (
        (asyncpg.DataCorruptedError, asyncpg.IndexCorruptedError),
        "the data is damaged ({error}): restore it from a backup",
    ),
    (
        (
            asyncpg.UndefinedTableError,
            asyncpg.UndefinedColumnError,
            asyncpg.UndefinedFunctionError,
            asyncpg.InvalidSchemaNameError,
        ),
        "tables were changed or dropped ({error}): restore them, or use another schema",
    ),
)


def is_lost(error: BaseException | None) -> bool:
    """Whether the connection is of no use, and it is unknown what became of a commit."""
    return isinstance(error, LOST) or getattr(error, "severity_en", "") in {"FATAL", "PANIC"}


def translate(error: Exception, store: str, *, outcome: Outcome | None = None) -> HeadwaterError:
    """Return the error that a person should see instead of one of the driver.

    Args:
        error: of the driver or of the system.
        store: the database's name in messages; without a password.
        outcome: of the work that it ended. None: of one statement that was a transaction of its
            own: what the server refuses is not stored, what it did not answer may be.
    """
    found = outcome or ("unknown" if is_lost(error) else "not stored")
    return _translate(error, store).replaced(outcome=found)


def _translate(error: Exception, store: str) -> HeadwaterError:
    text = str(error).strip() or type(error).__name__
    if getattr(error, "severity_en", "") == "PANIC":  # such as a full disk during a commit
        reason = f"the server broke down ({text}): see its log, and retry when it runs again"
        return StoreUnavailable(store=store, reason=reason)
    if isinstance(error, (asyncpg.DataError, ValueError)):
        return InvalidInput(reason=f"the database cannot take a value: {text}")
    if isinstance(error, asyncpg.DiskFullError):
        return DiskFull(store=store)
    for cls, table in ((StoreCorrupt, _CORRUPT), (StoreUnavailable, _UNAVAILABLE)):
        for kinds, reason in table:
            if isinstance(error, kinds):
                return cls(store=store, reason=reason.format(error=text))
    return StoreError(store=store, reason=f"{type(error).__name__}: {text}")


def reason_of(error: Exception, store: str) -> str:
    """Return what a person should read about an error of the driver, within a longer sentence."""
    failed = translate(error, store)
    return str(failed.fields().get("reason", failed))


@contextlib.contextmanager
def translated(store: str, *, outcome: Outcome | None = None) -> Iterator[None]:
    """Raise errors of the driver within the block as errors of ours; see `translate`."""
    try:
        yield
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error, store, outcome=outcome) from error
