"""Judging the domain: was each refusal, each decision and each view right at its place in the log?

Streams are gone through once, in order, however many calls ask about them: the state after each
version is there when it is needed. A refusal is tried at every version that the stream may have had
between its call and its answer, which are few; so all takes as long as events and calls together,
plus the lengths of these windows.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple

import msgspec

from headwater.errors import HeadwaterError
from headwater.eventstore import StoredEvent
from headwater.messages import Command, Query, encode_event, message_type
from headwater.modelling import Aggregate
from headwater.modelling.declarations import CommandHandler, events_of
from headwater.modelling.state import aggregate_type, split_stream
from headwater.testing.history.calls import (
    Answer,
    Ask,
    Call,
    Done,
    Refused,
    Send,
    canonical,
    refused,
)
from headwater.testing.history.claims import Claims
from headwater.testing.history.log import Log, count_until
from headwater.testing.history.order import Order
from headwater.testing.history.owners import Owners
from headwater.testing.history.verdict import Report

Decision = tuple[tuple[str, bytes], ...] | Refused


class AggregateRules:
    """Judges commands of an aggregate by its own handlers: they are pure, so they can be asked."""

    def __init__(
        self,
        cls: type[Aggregate],
        *,
        altered: Iterable[type[Command]] = (),
        elsewhere: Iterable[type[HeadwaterError]] = (),
    ) -> None:
        """Judge by a class.

        Args:
            cls: the aggregate class.
            altered: commands that interceptors change before they are decided: of those it is
                only judged whether they were rightly accepted.
            elsewhere: refusals that do not come from the aggregate, but from interceptors.
        """
        self._cls = cls
        self._kind = aggregate_type(cls)
        self.name = self._kind.name
        self._altered = {message_type(command).name for command in altered}
        self.elsewhere = {error.code for error in elsewhere}
        self._handlers: dict[str, CommandHandler] = {
            name: handler
            for command, handler in self._kind.commands.items()
            for name in (message_type(command).name, *message_type(command).aliases)
        }

    def judges(self, name: str) -> bool:
        """Whether commands of this name depend on nothing but the aggregate's own stream."""
        handler = self._handlers.get(name)
        return handler is not None and not handler.models

    def is_altered(self, name: str) -> bool:
        """Whether what is decided is not what was sent."""
        return name in self._altered

    def fresh(self, stream: str) -> Any:
        """Return the state before the first event."""
        return self._cls(id=split_stream(stream)[1])

    def apply(self, state: Any, event: StoredEvent) -> None:
        """Change the state by an event."""
        self._kind.replay(state, (event,))

    def decide(self, state: Any, version: int, name: str, content: bytes) -> Decision:
        """Return what a command would lead to: events by type and content, or a refusal."""
        handler = self._handlers[name]
        if handler.creates is True and version:
            return Refused("aggregate-exists", "not stored")
        if handler.creates is False and not version:
            return Refused("aggregate-not-found", "not stored")
        try:
            command = msgspec.json.decode(content, type=handler.command.cls)
            events = events_of(handler.function(state, command))
        except HeadwaterError as error:
            return refused(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, this was not decided
            return Refused(type(error).__name__, "not stored", {"error": str(error)})
        return tuple([(message_type(type(e)).name, encode_event(e)) for e in events])


class ViewRules:
    """Judges the answers of a query that shows one stream: they are what some prefix leads to."""

    def __init__(
        self,
        query: type[Query[Any]] | str,
        *,
        stream: Callable[[Any], str],
        fold: Callable[[Any, StoredEvent], Any],
        start: Any = None,
        monotonic: bool = False,
    ) -> None:
        """Judge a query by a function.

        Args:
            query: its class, or its wire name.
            stream: which stream a query shows, from its content as a dict.
            fold: what is shown after one more event, from what was shown before; it is compared
                as JSON.
            start: what is shown before the first event; None is also "not found".
            monotonic: that nobody sees less than before, as holds where all ask one view store.
        """
        self.name = query if isinstance(query, str) else message_type(query).name
        self.stream = stream
        self.fold = fold
        self.start = start
        self.monotonic = monotonic


class _Task(NamedTuple):
    """What is to be found at one of some versions of a stream."""

    low: int
    high: int
    call: Call
    wanted: Decision


class _Seen:
    """What a session had seen at some moment; its calls may overlap."""

    def __init__(self) -> None:
        self._version = 0
        self._coming: list[tuple[int, int]] = []  # when an answer came, and its version

    def add(self, moment: int, version: int) -> None:
        """Note an answer."""
        heappush(self._coming, (moment, version))

    def at(self, moment: int) -> int:
        """Return the newest version that was seen before; moments do not run backwards."""
        while self._coming and self._coming[0][0] < moment:
            self._version = max(self._version, heappop(self._coming)[1])
        return self._version


class Judge:
    """Goes through the streams and judges the calls about each."""

    def __init__(
        self,
        log: Log,
        owners: Owners,
        order: Order,
        claims: Claims,
        report: Report,
    ) -> None:
        """Judge by what the other rules have found."""
        self._log = log
        self._owners = owners
        self._order = order
        self._claims = claims
        self._report = report

    def commands(self, calls: Iterable[Call], rules: Sequence[AggregateRules]) -> int:
        """Judge commands; return how many refusals there are no rules for."""
        by_name = {rule.name: rule for rule in rules}
        tasks: dict[str, list[_Task]] = defaultdict(list)
        unjudged = 0
        for call in calls:
            outcome = call.outcome
            if type(outcome) is Refused and outcome.rejection and type(call.request) is Send:
                rule = _rule(call, by_name)
                if rule is None:
                    unjudged += 1
                elif outcome.code not in rule.elsewhere:
                    self._give(tasks, self._task(call, call.begin, outcome))
        for call, first, last in self._owners.commands:
            if _rule(call, by_name) is not None:
                self._give(tasks, self._made(call, first, last))
        for call, begin in self._owners.unchanged:
            if type(call.outcome) is Done and _rule(call, by_name) is not None:
                self._give(tasks, self._task(call, begin, ()))
        for stream, several in tasks.items():
            self._sweep(by_name[split_stream(stream)[0]], stream, several)
        return unjudged

    def _give(self, tasks: dict[str, list[_Task]], task: _Task) -> None:
        """Put a task to those of its stream, unless there is no version to try."""
        request = task.call.request
        assert isinstance(request, Send)
        if task.low <= task.high:
            tasks[request.stream].append(task)
        else:
            self._refute(task, "it was no longer open: its own idempotency key was stored before")

    def _task(self, call: Call, begin: int, wanted: Decision) -> _Task:
        """Return the versions at which a call may have been decided."""
        request = call.request
        assert isinstance(request, Send)
        low, high = self._order.window(begin, call.until)
        high = self._claims.capped(call, high)
        ranks = self._log.of_stream.get(request.stream, ())
        return _Task(count_until(ranks, low), count_until(ranks, high), call, wanted)

    def _made(self, call: Call, first: int, last: int) -> _Task:
        """Return the one version at which a call was decided."""
        log = self._log
        stream = log.streams[first]
        version = bisect_left(log.of_stream[stream], first)
        events = log.events[stream][version : version + last - first + 1]
        return _Task(version, version, call, tuple([(e.type, e.data) for e in events]))

    def _sweep(self, rule: AggregateRules, stream: str, tasks: list[_Task]) -> None:
        """Go through a stream, version by version, and try what may be decided at each."""
        tasks.sort(key=lambda task: task.low)
        events = self._log.events.get(stream, [])
        waiting: Iterator[_Task] = iter(tasks)
        coming = next(waiting, None)
        active: list[_Task] = []
        state = rule.fresh(stream)
        for version in range(len(events) + 1):
            while coming is not None and coming.low <= version:
                active.append(coming)
                coming = next(waiting, None)
            active = [task for task in active if not self._settled(rule, state, version, task)]
            if coming is None and not active:
                return
            if version < len(events):
                rule.apply(state, events[version])

    def _settled(self, rule: AggregateRules, state: Any, version: int, task: _Task) -> bool:
        """Whether nothing more is to be found out: it is right here, or wrong everywhere."""
        request = task.call.request
        assert isinstance(request, Send)
        decided = rule.decide(state, version, request.name, bytes(request.content))
        if _agree(decided, task.wanted, altered=rule.is_altered(request.name)):
            return True
        if version < task.high:
            return False
        self._refute(task, f"at version {version} it is {_shown(decided)}")
        return True

    def _refute(self, task: _Task, reason: str) -> None:
        rule = "refusal" if isinstance(task.wanted, Refused) else "decision"
        self._report(rule, f"{_shown(task.wanted)}: {reason}", task.call)

    # --- views ---

    def views(self, calls: Iterable[Call], rules: Sequence[ViewRules]) -> None:
        """Judge the answers to queries."""
        by_name = {rule.name: rule for rule in rules}
        for (name, stream), several in asked_about(calls, rules).items():
            if self._log.has(stream):
                self._compare(by_name[name], stream, several)

    def _compare(self, rule: ViewRules, stream: str, calls: list[Call]) -> None:
        """Find each answer among all that the stream has ever led to."""
        shown: dict[bytes, list[int]] = defaultdict(list)
        value = rule.start
        shown[bytes(canonical(value))].append(0)
        for version, event in enumerate(self._log.events.get(stream, ()), start=1):
            value = rule.fold(value, event)
            shown[bytes(canonical(value))].append(version)
        ranks = self._log.of_stream.get(stream, ())
        seen: dict[tuple[str, str], _Seen] = defaultdict(_Seen)
        for call in sorted(calls, key=lambda call: call.begin):
            request, answer = call.request, call.outcome
            assert isinstance(request, Ask)
            assert isinstance(answer, Answer)
            _, last = self._order.window(call.begin, call.until)
            before = seen[call.process, call.session]
            least = 0
            if request.shard == self._log.shard:
                least = count_until(ranks, self._log.prefix(request.position))
            floor = max(least, before.at(call.begin)) if rule.monotonic else least
            versions = shown.get(bytes(answer.content), [])
            place = bisect_left(versions, floor)
            if place < len(versions) and versions[place] <= count_until(ranks, last):
                before.add(call.until, versions[place])
                continue
            self._report(*_wrong(versions, place, least, floor), call)


def asked_about(
    calls: Iterable[Call], rules: Sequence[ViewRules]
) -> dict[tuple[str, str], list[Call]]:
    """Return the queries that there are rules for, by their names and the streams they show."""
    by_name = {rule.name: rule for rule in rules}
    asked: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in calls:
        if type(call.request) is Ask and type(call.outcome) is Answer:
            rule = by_name.get(call.request.name)
            if rule is not None:
                content = msgspec.json.decode(call.request.content)
                asked[rule.name, rule.stream(content)].append(call)
    return asked


def _rule(call: Call, rules: dict[str, AggregateRules]) -> AggregateRules | None:
    request = call.request
    assert isinstance(request, Send)
    rule = rules.get(split_stream(request.stream)[0])
    return rule if rule is not None and rule.judges(request.name) else None


def _wrong(versions: list[int], place: int, least: int, floor: int) -> tuple[str, str]:
    """Return the rule that an answer breaks, and how."""
    if place < len(versions):
        return "read", f"the answer is what was so at version {versions[place]}, which came later"
    if not versions:
        return "read", "the answer is nothing that the stream has ever led to"
    if versions[-1] < least:
        return "token", f"the answer is of version {versions[-1]}, its token asks for {least}"
    return "back", f"the answer is of version {versions[-1]}, {floor} had been seen before"


def _agree(decided: Decision, wanted: Decision, *, altered: bool) -> bool:
    if isinstance(wanted, Refused):
        same = isinstance(decided, Refused) and decided.code == wanted.code
        return same and isinstance(decided, Refused) and decided.fields == wanted.fields
    return not isinstance(decided, Refused) if altered else decided == wanted


def _shown(decision: Decision) -> str:
    if isinstance(decision, Refused):
        return f"{decision.code} {decision.fields}"
    return " ".join(f"{name} {data.decode()}" for name, data in decision) or "nothing"
