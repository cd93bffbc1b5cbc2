"""Group commit: all appends that are waiting in one transaction, each with its own verdict.

Everything here runs on the writing thread.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import apsw

from headwater._sql.sqlite.database import roll_back, transact, translate
from headwater.errors import HeadwaterError, InvalidInput, StoreUnavailable, Unexpected
from headwater.eventstore.api import StoredEvent, StoredKey
from headwater.eventstore.group_commit import Request, Verdict, break_pipelines
from headwater.eventstore.sqlite.batch import Batch
from headwater.eventstore.sqlite.importing import store_as_is
from headwater.eventstore.sqlite.known import Known
from headwater.eventstore.sqlite.upkeep import retag

T = TypeVar("T")

_WRONG_TYPE = (apsw.SQLITE_CONSTRAINT_DATATYPE, apsw.SQLITE_CONSTRAINT_NOTNULL)


def _wrong_type(error: apsw.ConstraintError) -> bool:
    code: int = getattr(error, "extendedresult", 0)  # set by apsw, unknown to its type stubs
    return code in _WRONG_TYPE


class Appender:
    """Carries out requests on the writing connection."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        self._path = path
        self._clock = clock
        self._known = Known()

    def carry_out(
        self,
        connection: apsw.Connection,
        requests: Sequence[Request],
        *,
        before_commit: Callable[[], None],
    ) -> list[Verdict]:
        """Return the verdict of each request; those that succeeded are on disk."""
        batch = Batch(self._known, self._clock())
        try:
            verdicts = batch.commit(connection, requests, before_commit)
        except Exception as error:  # noqa: BLE001  # belongs to those who asked
            roll_back(connection)
            self._known.forget()
            failed = _failure(error, self._path)
            if len(requests) > 1 and not isinstance(failed, StoreUnavailable):
                # One of them may be at fault (too large for the disk, say): it alone shall fail.
                return [
                    self.carry_out(connection, [request], before_commit=before_commit)[0]
                    for request in requests
                ]
            verdicts = [_failure(error, self._path) for _ in requests]
        break_pipelines(requests, verdicts)
        return verdicts

    def bring_in(
        self,
        connection: apsw.Connection,
        events: Sequence[StoredEvent],
        keys: Sequence[StoredKey],
        epoch: str,
    ) -> None:
        """Store what was read from another store, in a transaction of its own.

        Raises:
            HeadwaterError: nothing was stored, or (as its outcome says) it is unknown.
        """
        self._alone(
            connection, lambda inside: store_as_is(inside, self._known, events, keys, epoch)
        )

    def retag(self, connection: apsw.Connection, tags: Mapping[int, Sequence[str]]) -> int:
        """Give events other tags, in a transaction of its own; return how many had others.

        Raises:
            HeadwaterError: nothing was changed, or (as its reason says) it is unknown.
        """
        return self._alone(connection, lambda inside: retag(inside, tags))

    def _alone(self, connection: apsw.Connection, work: Callable[[apsw.Connection], T]) -> T:
        """Do something else than appending in a transaction, and forget what was known before."""
        try:
            return transact(connection, work)
        except Exception as error:
            raise _failure(error, self._path) from error
        finally:
            self._known.forget()


def _failure(error: Exception, path: Path) -> HeadwaterError:
    failed: HeadwaterError
    if isinstance(error, apsw.TooBigError):
        failed = InvalidInput(
            reason=f"an event is larger than SQLite can store ({error}): split it"
        )
    elif isinstance(error, apsw.ConstraintError) and _wrong_type(error):
        failed = InvalidInput(reason=f"a field of an event is of the wrong type: {error}")
    elif isinstance(error, apsw.Error):
        failed = translate(error, path)
    elif isinstance(error, HeadwaterError):
        failed = error.replaced()
    elif isinstance(error, (TypeError, ValueError, OverflowError, AttributeError)):
        failed = InvalidInput(reason=f"what was to be appended cannot be stored: {error}")
    else:
        failed = Unexpected(reference=repr(error))
    failed.__cause__ = error
    return failed
