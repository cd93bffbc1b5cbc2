"""One group commit: what the database is told, and the verdicts from its answer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from headwater.errors import (
    ConcurrencyConflict,
    ConditionFailed,
    HeadwaterError,
    IdempotencyKeyReused,
    StoreUnavailable,
)
from headwater.eventstore.api import (
    AppendCondition,
    Appended,
    FilterItem,
    NewEvent,
    Pipeline,
)
from headwater.eventstore.checks import broken_by, stored_before
from headwater.eventstore.group_commit import Append, Refusal, Request, Verdict
from headwater.eventstore.postgres.names import to_text, to_texts

_CONFLICT, _CONDITION, _DUPLICATE, _REUSED, _BROKEN = range(1, 6)
_encode = msgspec.json.Encoder().encode

Stored = Mapping[str, tuple[Appended, str] | HeadwaterError]


class Answer(msgspec.Struct, frozen=True):
    """What ``append_events`` says; its file has the meaning of each."""

    head: int
    time: int
    versions: list[int]
    failed: list[int]
    codes: list[int]
    details: list[int]
    actuals: list[int]

    @classmethod
    def of(cls, row: Any) -> "Answer":
        """Return the answer from its row."""
        head, time, *arrays = row
        return cls(head, time, *(array or [] for array in arrays))

    @classmethod
    def of_single(cls, row: Any) -> "Answer":
        """Return the answer from the row of ``append_single``."""
        head, time, version, code, detail = row
        if not code:
            return cls(head, time, [version], [], [], [], [])
        return cls(head, time, [version], [1], [code], [detail or 1], [version])


FORGOTTEN = StoreUnavailable(
    store="events",
    reason="the idempotency key was forgotten at this moment, as its time is over: send it again",
    outcome="not stored",
)
NOTHING_SENT = Answer(0, 0, [], [], [], [], [])
"""Of a batch of which every request was refused before."""


class Batch:
    """The requests of one transaction, flattened into arrays."""

    def __init__(self, requests: Sequence[Request]) -> None:
        """Flatten; raises TypeError or the like when one of them is not what it should be."""
        self.requests = requests
        self.sent: list[Append] = []
        self._streams: dict[str, int] = {}
        self._writes: list[int] = []
        self._pipelines: dict[Pipeline, int] = {}
        self._pipeline_of: list[int | None] = []
        self._keys: dict[str, int] = {}
        self._key_of: list[int | None] = []
        self._prints: list[str] = []
        self._stream_of: list[int] = []
        self._expected: list[int | None] = []
        self._counts: list[int] = []
        self._write_of: list[int] = []
        self._types: list[str] = []
        self._type_versions: list[int] = []
        self._tags: list[str] = []
        self._data: list[bytes] = []
        self._metadata: list[bytes] = []
        self._tag: list[str] = []
        self._tag_of: list[int] = []
        conditional = any(type(one) is Append and one.condition for one in requests)
        self._conditions = Conditions() if conditional else None
        refused: set[Pipeline] = set()
        for request in requests:
            if isinstance(request, Refusal):
                refused.add(request.pipeline)
                continue
            assert isinstance(request, Append)  # snapshots are saved at once
            if request.pipeline is None or not (
                request.pipeline.broken or request.pipeline in refused
            ):
                self._add(request)

    def _add(self, request: Append) -> None:
        self.sent.append(request)
        writes = request.writes
        self._writes.append(len(writes))
        pipeline, idempotency = request.pipeline, request.idempotency
        numbers = self._pipelines
        self._pipeline_of.append(
            None if pipeline is None else numbers.setdefault(pipeline, len(numbers) + 1)
        )
        if idempotency is None:
            self._key_of.append(None)
            self._prints.append("")
        else:
            keys = self._keys
            self._key_of.append(keys.setdefault(idempotency.key, len(keys) + 1))
            self._prints.append(idempotency.fingerprint)
        if self._conditions is not None:
            self._conditions.add(len(self.sent), request.condition)
        streams = self._streams
        for write in writes:
            self._stream_of.append(streams.setdefault(write.stream, len(streams) + 1))
            self._expected.append(write.expected)
            self._counts.append(len(write.events))
            number = len(self._counts)
            for event in write.events:
                self._write_of.append(number)
                self._types.append(event.type)
                self._type_versions.append(event.type_version)
                self._data.append(event.data)
                self._metadata.append(event.metadata)
                if event.tags:
                    self._tag_event(event)
                else:
                    self._tags.append("")
                if self._conditions is not None:
                    self._conditions.store(len(self._write_of), event)

    def _tag_event(self, event: NewEvent) -> None:
        self._tags.append(_encode(event.tags).decode())
        tags = dict.fromkeys(event.tags)
        self._tag.extend(tags)
        self._tag_of.extend([len(self._write_of)] * len(tags))

    @property
    def streams(self) -> list[str]:
        """The streams in stored form, as numbered."""
        return to_texts(tuple(self._streams))

    def arguments(self, now: int | None) -> tuple[Any, ...]:
        """Return the arguments of ``append_events`` from the third on."""
        conditions = self._conditions.arguments() if self._conditions else (None,) * 6
        everything, *others = conditions
        keyed = (to_texts(tuple(self._keys)), self._key_of, to_texts(self._prints))
        return (
            now,
            self.streams,
            self._writes,
            self._pipeline_of if self._pipelines else None,
            everything,
            *(keyed if self._keys else (None, None, None)),
            *others,
            self._stream_of,
            self._expected,
            self._counts,
            self._write_of,
            to_texts(self._types),
            self._type_versions,
            self._tags,
            self._data,
            self._metadata,
            *((to_texts(self._tag), self._tag_of) if self._tag else (None, None)),
        )

    def single(self, now: int | None) -> tuple[Any, ...] | None:
        """Return the arguments of ``append_single`` from the third on, if it will do."""
        if len(self._types) != 1 or len(self.sent) != 1 or len(self._counts) != 1:
            return None
        (request,) = self.sent
        condition, key = request.condition, request.idempotency
        if condition is not None and len(condition.filter.items) > 1:
            return None
        ((stream, type_),) = zip(self._streams, self._types, strict=True)
        return (
            now,
            to_text(stream),
            self._expected[0],
            None if key is None else to_text(key.key),
            None if key is None else to_text(key.fingerprint),
            to_text(type_),
            self._type_versions[0],
            self._tags[0],
            self._data[0],
            self._metadata[0],
            to_texts(self._tag) if self._tag else None,
            *((None,) * 4 if condition is None else _excluded(condition)),
        )

    def keys_to_look_up(self, answer: Answer) -> list[str]:
        """Return the keys of duplicates whose first append is not of this batch."""
        failed = dict(zip(answer.failed, answer.codes, strict=True))
        first: set[str] = set()
        missing: dict[str, None] = {}
        for number, append in enumerate(self.sent, start=1):
            if append.idempotency is not None:
                key, code = append.idempotency.key, failed.get(number)
                if code is None:
                    first.add(key)
                elif code == _DUPLICATE and key not in first:
                    missing[key] = None
        return list(missing)

    def verdicts(self, answer: Answer, stored: Stored) -> list[Verdict]:
        """Return the verdict of each request, in order.

        Args:
            answer: of the database.
            stored: the outcomes of `keys_to_look_up`, or why they could not be looked up.
        """
        failures = dict(
            zip(
                answer.failed,
                zip(answer.codes, answer.details, answer.actuals, strict=True),
                strict=True,
            )
        )
        known = dict(stored)
        broken: dict[Pipeline, HeadwaterError] = {}
        sent = self._outcomes(answer, failures)
        verdicts: list[Verdict] = []
        turn = 0
        for request in self.requests:
            if isinstance(request, Refusal):
                broken.setdefault(request.pipeline, request.error)
                verdicts.append(request.error)
                continue
            assert isinstance(request, Append)
            pipeline = request.pipeline
            verdict: Appended | HeadwaterError | None = None
            if turn < len(self.sent) and self.sent[turn] is request:
                turn += 1
                outcome = next(sent)
                if outcome is None:
                    verdict = self._failure(request, failures[turn], known, broken)
                else:
                    verdict = outcome
                    if request.idempotency is not None:
                        known[request.idempotency.key] = (outcome, request.idempotency.fingerprint)
            if verdict is None and pipeline is not None:
                verdict = broken_by(pipeline.broken or broken[pipeline])
            assert verdict is not None
            if pipeline is not None:
                _note(broken, pipeline, request, verdict)
            verdicts.append(verdict)
        return verdicts

    def _outcomes(self, answer: Answer, failures: Mapping[int, Any]) -> Iterator[Appended | None]:
        """Yield the outcome of each append sent; None for those that failed."""
        versions, head, time = answer.versions, answer.head, answer.time
        write = 0
        for number, append in enumerate(self.sent, start=1):
            count = len(append.writes)
            if number in failures:
                write += count
                yield None
                continue
            first = head + 1
            after: list[int] = []
            for place in range(write, write + count):
                stream = self._stream_of[place] - 1
                head += self._counts[place]
                versions[stream] += self._counts[place]
                after.append(versions[stream])
            write += count
            streams = tuple([write.stream for write in append.writes])
            yield Appended(first, head, time, streams, tuple(after))

    def _failure(
        self,
        append: Append,
        failure: tuple[int, int, int],
        known: Stored,
        broken: Mapping[Pipeline, HeadwaterError],
    ) -> Verdict:
        code, detail, actual = failure
        if code == _CONFLICT:
            stream = tuple(self._streams)[self._stream_of[detail - 1] - 1]
            expected = self._expected[detail - 1] or 0
            return ConcurrencyConflict(stream=stream, expected=expected, actual=actual)
        if code == _CONDITION and append.condition is not None:
            return ConditionFailed(after=append.condition.after, position=detail)
        if append.pipeline is not None and code == _BROKEN:
            return broken_by(broken[append.pipeline])
        assert append.idempotency is not None
        if code == _REUSED:
            return IdempotencyKeyReused(key=append.idempotency.key)
        found = known.get(append.idempotency.key, FORGOTTEN)
        if isinstance(found, HeadwaterError):
            return found.replaced()
        return msgspec.structs.replace(found[0], duplicate=True)


def _excluded(condition: AppendCondition) -> tuple[int, str | None, list[str] | None, Any]:
    """Return what ``append_single`` is told of a condition with one item, or none."""
    (item,) = condition.filter.items or (FilterItem(),)
    tags = [to_text(tag) for tag in dict.fromkeys(item.tags)]
    kinds = [to_text(kind) for kind in dict.fromkeys(item.types)]
    return condition.after, tags[0] if tags else None, tags[1:] or None, kinds or None


def _note(
    broken: dict[Pipeline, HeadwaterError],
    pipeline: Pipeline,
    request: Append,
    verdict: Appended | HeadwaterError,
) -> None:
    """Remember what broke a pipeline, if this did."""
    if isinstance(verdict, HeadwaterError):
        broken.setdefault(pipeline, verdict)
    elif verdict.duplicate and request.idempotency is not None:
        broken.setdefault(pipeline, stored_before(request.idempotency.key))


class Conditions:
    """The conditions of a batch: against what is stored, and against earlier events of the batch.

    Which events of the batch match is found out here; whether those are stored, and where, only
    the database knows.
    """

    def __init__(self) -> None:
        self._everything: list[int | None] = []
        self._tagged: list[dict[str, Any]] = []
        self._typed: list[dict[str, Any]] = []
        self._rivals: list[int] = []
        self._rival_to: list[int] = []
        self._rival_after: list[int] = []
        self._by_tag: dict[str, list[int]] = {}
        self._by_type: dict[str, list[int]] = {}
        self._events: list[NewEvent] = []

    def store(self, number: int, event: NewEvent) -> None:
        """Take note of an event of the batch; its number is how many there are with it."""
        assert number == len(self._events) + 1
        self._events.append(event)
        self._by_type.setdefault(event.type, []).append(number)
        for tag in dict.fromkeys(event.tags):
            self._by_tag.setdefault(tag, []).append(number)

    def add(self, append: int, condition: AppendCondition | None) -> None:
        """Take note of the condition of the next append, before its events are stored."""
        everything: int | None = None
        if condition is not None:
            items = condition.filter.items
            if not items or FilterItem() in items:
                everything = condition.after
            else:
                for item in items:
                    self._add_item(append, item, condition.after)
        self._everything.append(everything)

    def _add_item(self, append: int, item: FilterItem, after: int) -> None:
        kinds = [to_text(kind) for kind in dict.fromkeys(item.types)]
        if item.tags:
            first, *others = map(to_text, dict.fromkeys(item.tags))
            self._tagged.append(
                {"append": append, "after": after, "first": first}
                | ({"others": others} if others else {})
                | ({"types": kinds} if kinds else {})
            )
            candidates = min((self._by_tag.get(tag, []) for tag in item.tags), key=len)
        else:
            self._typed.append({"append": append, "after": after, "types": kinds})
            candidates = [n for kind in item.types for n in self._by_type.get(kind, [])]
        for number in candidates:
            event = self._events[number - 1]
            if (not item.types or event.type in item.types) and all(
                tag in event.tags for tag in item.tags
            ):
                self._rivals.append(number)
                self._rival_to.append(append)
                self._rival_after.append(after)

    def arguments(self) -> tuple[Any, ...]:
        """Return the arguments of ``append_events`` that are about conditions."""
        return (
            self._everything,
            _encode(self._tagged).decode() if self._tagged else None,
            _encode(self._typed).decode() if self._typed else None,
            *((self._rivals, self._rival_to, self._rival_after) if self._rivals else (None,) * 3),
        )
