"""One transaction: the verdict of each append in it, and the rows of those that succeed."""

from collections.abc import Callable, Sequence
from typing import Any

import apsw
import msgspec

from headwater._sql.sqlite.database import commit, roll_back
from headwater.errors import (
    ConcurrencyConflict,
    ConditionFailed,
    HeadwaterError,
    IdempotencyKeyReused,
)
from headwater.eventstore.api import (
    AppendCondition,
    Appended,
    FilterItem,
    Idempotency,
    NewEvent,
    Pipeline,
)
from headwater.eventstore.checks import broken_by, stored_before
from headwater.eventstore.group_commit import Append, Refusal, Request, Save, Verdict
from headwater.eventstore.sqlite.filter import find_tagged
from headwater.eventstore.sqlite.known import ROWS_MAX, SQL, Known, fitting, insert, many
from headwater.eventstore.times import recorded

_encode = msgspec.json.Encoder().encode
_texts = msgspec.json.Decoder(tuple[str, ...]).decode
_numbers = msgspec.json.Decoder(tuple[int, ...]).decode


class Batch:
    """The requests of one transaction."""

    def __init__(self, known: Known, now: int) -> None:
        self._known = known
        self._time = now
        self._events: list[Any] = []
        self._tags: list[Any] = []
        self._keys: list[Any] = []
        self._stored: dict[str, tuple[Appended, str]] = {}
        self._tagged: dict[str, list[tuple[int, NewEvent]]] = {}
        self._broken: dict[Pipeline, HeadwaterError] = {}

    def commit(
        self,
        connection: apsw.Connection,
        requests: Sequence[Request],
        before_commit: Callable[[], None],
    ) -> list[Verdict]:
        """Decide on each request, in order, and store what succeeds in one transaction."""
        connection.execute("BEGIN IMMEDIATE")
        known = self._known
        known.refresh(connection)
        last, self._time = known.time, recorded(self._time, known.time)
        first = known.head + 1
        self._learn(connection, requests)
        verdicts = [self._carry_out(connection, request) for request in requests]
        insert(connection, "insert_events", 9, self._events)
        insert(connection, "insert_tags", 2, self._tags)
        insert(connection, "insert_keys", 7, self._keys)
        if self._events:
            known.time = self._time
            if self._time < last:
                connection.execute(SQL["add_run"], (first, self._time))
        elif not self._keys and not any(type(request) is Save for request in requests):
            roll_back(connection)  # nothing to store, so nothing to wait for
            return verdicts
        before_commit()
        commit(connection)
        return verdicts

    def _learn(self, connection: apsw.Connection, requests: Sequence[Request]) -> None:
        known = self._known.versions
        streams: set[str] = set()
        tags: list[str] = []
        types: list[str] = []
        keys: list[str] = []
        for request in requests:
            if type(request) is not Append:
                continue
            for write in request.writes:
                if write.stream not in known:
                    streams.add(write.stream)
            if request.condition is not None:
                for item in request.condition.filter.items:
                    tags.extend(item.tags)
                    if not item.tags:
                        types.extend(item.types)
            if request.idempotency is not None:
                keys.append(request.idempotency.key)
        self._known.learn(connection, streams=streams, tags=tags, types=types)
        for start in range(0, len(keys), ROWS_MAX):
            self._stored.update(stored_outcomes(connection, keys[start : start + ROWS_MAX]))

    def _carry_out(self, connection: apsw.Connection, request: Request) -> Verdict:
        if isinstance(request, Refusal):
            self._broken.setdefault(request.pipeline, request.error)
            return request.error
        if isinstance(request, Save):
            kept = request.snapshot
            values = (kept.stream, kept.version, kept.fingerprint, kept.data)
            connection.execute(SQL["save_snapshot"], values)
            return None
        pipeline = request.pipeline
        if pipeline is None:
            return self._decide(connection, request)
        broken = pipeline.broken or self._broken.get(pipeline)
        if broken is not None:
            return broken_by(broken)
        verdict = self._decide(connection, request)
        if isinstance(verdict, HeadwaterError):
            self._broken[pipeline] = verdict
        elif verdict.duplicate and request.idempotency is not None:
            self._broken[pipeline] = stored_before(request.idempotency.key)
        return verdict

    def _decide(self, connection: apsw.Connection, request: Append) -> Appended | HeadwaterError:
        idempotency = request.idempotency
        if idempotency is not None and idempotency.key in self._stored:
            outcome, fingerprint = self._stored[idempotency.key]
            if fingerprint != idempotency.fingerprint:
                return IdempotencyKeyReused(key=idempotency.key)
            return msgspec.structs.replace(outcome, duplicate=True)
        versions = self._known.versions
        for write in request.writes:
            expected = write.expected
            if expected is not None and expected != versions[write.stream]:
                return ConcurrencyConflict(
                    stream=write.stream, expected=expected, actual=versions[write.stream]
                )
        if request.condition is not None:
            position = self._match(connection, request.condition)
            if position:
                return ConditionFailed(after=request.condition.after, position=position)
        return self._store(request)

    def _match(self, connection: apsw.Connection, condition: AppendCondition) -> int:
        """Return the position of an event that matches after the condition's position, else 0."""
        known, after = self._known, condition.after
        if known.head <= after:
            return 0
        if not condition.filter.items:
            return known.head
        for item in condition.filter.items:
            if not item.tags:
                last = max((known.last_of_types[kind] for kind in item.types), default=known.head)
            else:
                last = min(known.last_of_tags[tag] for tag in item.tags)
                if last > after and (item.types or len(item.tags) > 1):
                    last = self._search(connection, item, after)
            if last > after:
                return last
        return 0

    def _search(self, connection: apsw.Connection, item: FilterItem, after: int) -> int:
        """Look for an event with all tags of the item, stored or to be stored with this batch."""
        stored = find_tagged(item).run(connection, low=after, high=self._known.head)
        if stored is not None:
            return stored
        for position, event in self._tagged.get(item.tags[0], ()):
            if (
                position > after
                and (not item.types or event.type in item.types)
                and all(tag in event.tags for tag in item.tags)
            ):
                return position
        return 0

    def _store(self, request: Append) -> Appended:
        known, time, rows = self._known, self._time, self._events
        position = known.head
        first = position + 1
        versions: list[int] = []
        for write in request.writes:
            stream = write.stream
            version = known.versions[stream]
            for event in write.events:
                position += 1
                version += 1
                kind, tags = event.type, event.tags
                rows += (
                    position,
                    stream,
                    version,
                    kind,
                    event.type_version,
                    time,
                    _encode(tags).decode() if tags else "",
                    event.data,
                    event.metadata,
                )
                known.last_of_types[kind] = position
                if tags:
                    self._tag(position, event)
            known.versions[stream] = version
            versions.append(version)
        known.head = position
        streams = tuple([write.stream for write in request.writes])
        outcome = Appended(first, position, time, streams, tuple(versions))
        if request.idempotency is not None:
            self._keep(request.idempotency, outcome)
        return outcome

    def _tag(self, position: int, event: NewEvent) -> None:
        for tag in dict.fromkeys(event.tags):
            self._tags += (tag, position)
            self._known.last_of_tags[tag] = position
            self._tagged.setdefault(tag, []).append((position, event))

    def _keep(self, idempotency: Idempotency, outcome: Appended) -> None:
        self._stored[idempotency.key] = (outcome, idempotency.fingerprint)
        self._keys += (
            idempotency.key,
            idempotency.fingerprint,
            outcome.first,
            outcome.last,
            outcome.time,
            _encode(outcome.streams).decode(),
            _encode(outcome.versions).decode(),
        )


def stored_outcomes(
    connection: apsw.Connection, keys: Sequence[str]
) -> dict[str, tuple[Appended, str]]:
    """Return the outcomes stored under some keys (at most `ROWS_MAX`), with fingerprints."""
    size = fitting(len(keys))
    values = [*keys, *[None] * (size - len(keys))]
    rows = connection.execute(many("outcomes", 1, size), values)
    return {
        key: (Appended(first, last, time, _texts(streams), _numbers(versions)), fingerprint)
        for key, fingerprint, first, last, time, streams, versions in rows
    }
