"""Sends batches to the database, and finds out what became of one whose connection broke."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg

from headwater._sql import clock_watch
from headwater._sql.postgres.database import (
    LOST,
    Database,
    is_lost,
    reason_of,
    translate,
    translated,
)
from headwater.errors import (
    HeadwaterError,
    InvalidInput,
    StoreCorrupt,
    StoreUnavailable,
    Unexpected,
)
from headwater.eventstore.api import Appended
from headwater.eventstore.group_commit import Request, Verdict, break_pipelines
from headwater.eventstore.postgres.batch import (
    NOTHING_SENT,
    Answer,
    Batch,
)
from headwater.eventstore.postgres.names import WRONG, from_text, to_texts
from headwater.eventstore.postgres.read import SQL
from headwater.messages import new_id, now_us

_LOOK_AGAIN_S = 0.05
_NOT_EXPECTED = "HW001"
_STORED_BEFORE = "; it was stored before under its idempotency key, which finds out the outcome"


class Writer:
    """One connection that appends, for one event loop; one batch at a time."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], int] | None,
        *,
        resolve_timeout_s: float,
    ) -> None:
        self._database = database
        self._clock = clock
        self._resolve_timeout_s = resolve_timeout_s
        self._writer = new_id()
        self._number = 0
        self._connection: Any = None
        self._append: Any = None
        self._append_single: Any = None

    async def carry_out(self, requests: Sequence[Request]) -> list[Verdict]:
        """Return the verdict of each request; those that succeeded are on disk."""
        answer: Answer | None = None
        try:
            batch = Batch(requests)
            answer = await self._send(batch) if batch.sent else NOTHING_SENT
            verdicts = await self._verdicts(batch, answer)
        except Exception as error:  # noqa: BLE001  # belongs to those who asked
            failed = _failure(error, self._database.name)
            # What was answered is stored, and never sent again.
            if answer is None and len(requests) > 1 and _may_be_one(error, failed):
                return [(await self.carry_out([request]))[0] for request in requests]
            verdicts = [_failure(error, self._database.name) for _ in requests]
        break_pipelines(requests, verdicts)
        return verdicts

    async def close(self) -> None:
        """Release the connection."""
        if self._connection is not None:
            with contextlib.suppress(asyncpg.PostgresError, *LOST):
                await self._connection.close(timeout=1.0)
            self._connection = None

    async def _verdicts(self, batch: Batch, answer: Answer) -> list[Verdict]:
        """Return the verdicts of a batch that was answered.

        Those that were stored before fail, as stored, when their first outcome cannot be looked up.
        """
        keys = batch.keys_to_look_up(answer) if answer.failed else []
        if not keys:
            return batch.verdicts(answer, {})
        try:
            stored = await self._database.read(lambda reader: stored_outcomes(reader, keys))
        except HeadwaterError as error:
            reason = f"{error.fields().get('reason', error)}{_STORED_BEFORE}"
            unread = StoreUnavailable(store=self._database.name, reason=reason, outcome="stored")
            return batch.verdicts(answer, dict.fromkeys(keys, unread))
        return batch.verdicts(answer, stored)

    async def _send(self, batch: Batch) -> Answer:
        """Have a batch stored, again if need be, until it is known what became of it."""
        now = None if self._clock is None else self._clock()
        single = batch.single(now)
        arguments = single or batch.arguments(now)
        deadline = time.monotonic() + self._resolve_timeout_s
        began_us = now_us()
        while True:
            await self._connected()
            self._number += 1
            try:
                if single:
                    row = await self._append_single.fetchrow(self._writer, self._number, *arguments)
                    return self._checked(Answer.of_single(row), began_us)
                row = await self._append.fetchrow(self._writer, self._number, *arguments)
                return self._checked(Answer.of(row), began_us)
            except Exception as error:  # nothing may be sent twice, whatever it is
                if getattr(error, "sqlstate", "") == _NOT_EXPECTED:
                    self._start_anew()  # our row was deleted: the batch was rolled back
                    continue
                if not self._is_lost(error):
                    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                        self._drop()  # the server is no primary any more
                    raise
                lost = error
            self._drop()
            answer = await self._resolve(batch, lost, deadline)
            if answer is not None:
                return answer
            if time.monotonic() > deadline:
                raise translate(lost, self._database.name, outcome="not stored") from lost

    def _checked(self, answer: Answer, began_us: int) -> Answer:
        if self._clock is None:
            clock_watch.compare(self._database.name, answer.time, began_us=began_us)
        return answer

    async def _resolve(self, batch: Batch, lost: Exception, deadline: float) -> Answer | None:
        """Return the answer of the batch sent last if it was stored; else it never will be.

        Raises:
            StoreUnavailable: the server could not be asked in the time allowed.
        """
        number = self._number
        self._number += 1  # the database takes this one, so that the batch can come no more
        while True:
            try:
                await self._connected()
                row = await self._connection.fetchrow(
                    SQL["resolve"], self._writer, number, batch.streams
                )
            except (asyncpg.PostgresError, *LOST, HeadwaterError) as error:
                self._drop()
                if time.monotonic() > deadline:
                    raise self._in_doubt(lost, error) from error
                await asyncio.sleep(_LOOK_AGAIN_S)
                continue
            return Answer.of(row) if row["head_"] is not None else None

    async def _connected(self) -> None:
        """Have a connection, and the writer known to the database.

        Raises:
            HeadwaterError: the batch was not sent.
        """
        if self._connection is not None and not self._connection.is_closed():
            return
        with translated(self._database.name, outcome="not stored"):
            connection = await self._database.connect()
            try:
                await connection.execute(SQL["register"], self._writer, 0)
                await connection.execute(SQL["plan_once"])
                self._append = await connection.prepare(SQL["append"])
                self._append_single = await connection.prepare(SQL["append_single"])
            except BaseException:
                connection.terminate()
                raise
        self._connection = connection

    def _start_anew(self) -> None:
        """Become a new writer: the row of the old one was deleted."""
        self._writer = new_id()
        self._drop()

    def _is_lost(self, error: Exception) -> bool:
        """Whether it is unknown what became of the batch; else it was refused as a whole."""
        if isinstance(error, asyncpg.InterfaceError):  # the driver's word for misuse, too
            return bool(self._connection.is_closed())
        return is_lost(error) or not isinstance(error, asyncpg.PostgresError)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _in_doubt(self, lost: Exception, asking: Exception) -> HeadwaterError:
        """Return the error for a batch that may be stored, as the database cannot be asked."""
        cause = asking.__cause__ if isinstance(asking, HeadwaterError) else asking
        both = [lost, cause] if isinstance(cause, Exception) else [lost]
        reasons = dict.fromkeys(reason_of(error, self._database.name) for error in both)
        reason = "; and then ".join(reasons)
        return StoreUnavailable(store=self._database.name, reason=reason, outcome="unknown")


async def stored_outcomes(connection: Any, keys: Sequence[str]) -> dict[str, tuple[Appended, str]]:
    """Return the outcomes stored under some keys, with fingerprints."""
    rows = await connection.fetch(SQL["outcomes"], to_texts(keys))
    return {from_text(row["key"]): (outcome_of(row), from_text(row["fingerprint"])) for row in rows}


def outcome_of(row: Any) -> Appended:
    """Return the outcome from a row of ``event_keys``."""
    streams = tuple([from_text(name) for name in row["streams"]])
    return Appended(row["first"], row["last"], row["time"], streams, tuple(row["versions"]))


def _may_be_one(error: Exception, failed: HeadwaterError) -> bool:
    """Whether one request may be at fault for what a batch failed with; it alone shall fail then.

    Not when the database is away or locked: to wait for it again with each would take for ever.
    """
    if isinstance(error, (asyncpg.QueryCanceledError, asyncpg.OutOfMemoryError)):
        return True
    return not isinstance(failed, (StoreUnavailable, StoreCorrupt))


def _failure(error: Exception, name: str) -> HeadwaterError:
    failed: HeadwaterError
    if isinstance(error, HeadwaterError):
        failed = error.replaced()
    elif isinstance(error, WRONG):
        failed = InvalidInput(reason=f"what was to be appended cannot be stored: {error}")
    elif isinstance(error, (asyncpg.PostgresError, *LOST)):
        failed = translate(error, name)
    else:
        failed = Unexpected(reference=repr(error))
    failed.__cause__ = error
    return failed
