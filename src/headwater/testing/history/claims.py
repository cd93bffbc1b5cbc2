"""What an answer says about the log at some moment between its call and itself.

A claim is a range of prefixes: *the log was no shorter than low and no longer than high*. A read of
the head claims one prefix, the version of a stream a few, a refusal those that justify it.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from headwater.testing.history.calls import (
    NEVER,
    Append,
    Call,
    Done,
    Found,
    Head,
    Lookup,
    Number,
    Outcome,
    Pages,
    Read,
    Refused,
    Request,
    Send,
    Stored,
    Version,
)
from headwater.testing.history.log import Log
from headwater.testing.history.owners import Owners, identity
from headwater.testing.history.verdict import Report


class Claim(NamedTuple):
    """At some moment from ``begin`` to ``end`` the log had ``low`` to ``high`` events."""

    call: Call
    begin: int
    end: int
    low: int
    high: int
    rule: str
    what: str


class Claims:
    """Finds the claims of calls, and what contradicts the log whatever the time."""

    def __init__(self, log: Log, owners: Owners, report: Report) -> None:
        """Look at these."""
        self._log = log
        self._owners = owners
        self._report = report
        self._keys: dict[str, list[Call]] = {}
        self._pipelines: dict[int, int] = {}  # when the first append of each failed

    def of(self, calls: Iterable[Call]) -> list[Claim]:
        """Return all claims."""
        found: list[Claim] = []
        refused: list[Call] = []
        lookups: list[Call] = []
        for call in calls:
            kind = type(call.outcome)
            if kind is Pages:
                found.extend(self._pages(call))
            elif kind is Number:
                found.append(self._number(call))
            elif kind is Found:
                lookups.append(call)
            else:
                self._note(call)
                if kind is Refused:
                    refused.append(call)
        for call in lookups:
            found.extend(self._lookup(call))
        for call, begin in self._owners.unchanged:
            found.extend(self._nothing(call, begin))
        for call in refused:
            found.extend(self._refusal(call))
        return found

    def _note(self, call: Call) -> None:
        """Note what refusals of other calls may rest on."""
        request = call.request
        if isinstance(request, Append | Send) and request.key:
            self._keys.setdefault(request.key, []).append(call)
        if isinstance(request, Append) and request.pipeline and _breaks(call.outcome):
            known = self._pipelines.get(request.pipeline, NEVER)
            self._pipelines[request.pipeline] = min(known, call.begin)

    def _claim(self, call: Call, low: int, high: int, rule: str, what: str) -> Claim:
        return Claim(call, call.begin, call.until, low, high, rule, what)

    # --- reads ---

    def _number(self, call: Call) -> Claim:
        log, request = self._log, call.request
        assert isinstance(call.outcome, Number)
        value = call.outcome.value
        if isinstance(request, Version):
            low, high = log.bounds_of_version(request.stream, value)
            return self._claim(call, low, high, "read", f"version {value}")
        assert isinstance(request, Head)
        prefix = log.prefix(value)
        return self._claim(call, prefix, prefix, "read", f"head {value}")

    def _pages(self, call: Call) -> Iterator[Claim]:
        """Check that a read delivered just what is stored, and return what it claims."""
        log, request, told = self._log, call.request, call.outcome
        assert isinstance(request, Read)
        assert isinstance(told, Pages)
        end = len(log)
        after, through = self._prefix(request, request.after), self._prefix(request, told.through)
        until = end if request.until is None else min(end, self._prefix(request, request.until))
        given = [log.rank(position) for position in told.positions]
        first = max(given, default=-1) + 1 if request.backwards else through
        low, high = (through, first) if request.backwards else (after, through)
        expected = list(self._selected(request, low, min(high, until)))
        if request.backwards:
            expected.reverse()
        if given != expected:
            self._report("read", self._difference(given, expected), call)
        elif log.combined(given) != told.digest:
            self._report("read", "events differ from those that are stored", call)
        else:
            yield self._claimed(call, request, told, max(given, default=-1) + 1, until)

    def _claimed(self, call: Call, request: Read, told: Pages, seen: int, until: int) -> Claim:
        """Return the claim of a read whose content is right; ``seen`` is the prefix it showed."""
        log = self._log
        high = len(log)
        if request.backwards:
            low = seen
            if seen or told.complete:
                # It began at the head: the next that it could have shown was not there yet.
                start = max(seen, self._prefix(request, request.after))
                high = next(self._selected(request, start, until), high)
        else:
            through = self._prefix(request, told.through)
            beyond = told.through > request.after
            low = through if beyond else 0
            if told.complete and (request.until is None or told.through < request.until):
                high = self._last_prefix(request, told.through)
        return self._claim(call, low, high, "read", f"events through {told.through}")

    def _prefix(self, request: Read, number: int) -> int:
        """Return the prefix that ends with a position or version."""
        if request.stream is None:
            return self._log.prefix(number)
        if number == 0:
            return 0
        ranks = self._log.of_stream.get(request.stream, ())
        return ranks[number - 1] + 1 if number <= len(ranks) else len(self._log) + 1

    def _last_prefix(self, request: Read, number: int) -> int:
        """Return the last prefix at which a position or version is that of the end."""
        if request.stream is None:
            return self._log.prefix(number)
        ranks = self._log.of_stream.get(request.stream, ())
        return ranks[number] if number < len(ranks) else len(self._log)

    def _selected(self, request: Read, after: int, until: int) -> Iterator[int]:
        log = self._log
        if request.stream is None:
            return log.matching(request.filter, after, until)
        ranks = log.of_stream.get(request.stream, ())
        start, end = log.version_at(request.stream, after), log.version_at(request.stream, until)
        return (ranks[place] for place in range(start, end))

    def _difference(self, given: list[int], expected: list[int]) -> str:
        for place, (one, other) in enumerate(zip(given, expected, strict=False)):
            if one != other:
                return f"event {place + 1} should be: {self._log.row(other)}, was {one + 1}"
        if len(given) < len(expected):
            return f"left out: {self._log.row(expected[len(given)])}"
        return (
            f"event {len(expected) + 1} should not be there: {self._log.row(given[len(expected)])}"
        )

    def _lookup(self, call: Call) -> Iterator[Claim]:
        log, request, told = self._log, call.request, call.outcome
        assert isinstance(request, Lookup)
        assert isinstance(told, Found)
        first = self._owners.first_of_key.get(request.key)
        if told.outcome is None:
            if first is not None:
                yield self._claim(call, 0, first, "read", "no outcome of the key")
            return
        known = self._owners.told_of_key.get(request.key)
        again = msgspec.structs.replace(told.outcome, duplicate=False)
        if isinstance(known, Stored) and msgspec.structs.replace(known, duplicate=False) != again:
            evidence = f"key {request.key!r} has two outcomes, {known} and {again}"
            self._report("key", evidence, call)
        elif again.last >= again.first:
            if first is None and request.key in self._keys:
                self._report(
                    "key", f"the key's outcome is {again}, which none of its calls stored", call
                )
            elif first is not None and first != log.rank(again.first):
                self._report("key", f"the key's outcome is {again}, but {log.row(first)}", call)
            yield self._claim(call, log.prefix(again.last), len(log), "read", "the key's outcome")

    # --- what changed nothing ---

    def _nothing(self, call: Call, begin: int) -> Iterator[Claim]:
        """Return what an acknowledgement without events claims: it names the head."""
        log, request, told = self._log, call.request, call.outcome
        end = call.until
        if isinstance(told, Stored):
            prefix = log.prefix(told.last)
            yield Claim(call, begin, end, prefix, prefix, "read", f"head {told.last}")
        elif isinstance(told, Done) and isinstance(request, Send):
            if told.position > 0:
                prefix = log.prefix(told.position)
                yield Claim(call, begin, end, prefix, prefix, "lost", f"nothing new at {told}")
            if request.stream and told.version:
                low, high = log.bounds_of_version(request.stream, told.version)
                yield Claim(call, begin, end, low, high, "lost", f"nothing new at {told}")

    # --- refusals ---

    def _refusal(self, call: Call) -> Iterator[Claim]:
        refused, request = call.outcome, call.request
        assert isinstance(refused, Refused)
        low, high = -1, len(self._log)
        what = f"{refused.code} {refused.fields}"
        at = request.stream if isinstance(request, Send) else ""
        match refused:
            case Refused(
                code="concurrency-conflict",
                fields={"stream": str(stream), "expected": int(expected), "actual": int(actual)},
            ) if self._expected(request, stream, expected):
                low, high = self._log.bounds_of_version(stream, actual)
                if actual == expected:
                    self._report("refusal", f"{what}: but that is what was expected", call)
                    return
            case Refused(code="condition-failed", fields={"position": int(position)}):
                low = self._excluded(call, request, position)
            case Refused(code="aggregate-exists", fields={"aggregate": name, "id": id}) if (
                at == f"{name}/{id}"
            ):
                low, _ = self._log.bounds_of_version(at, 1)
            case Refused(code="aggregate-not-found", fields={"aggregate": name, "id": id}) if (
                at == f"{name}/{id}"
            ):
                low, high = self._log.bounds_of_version(at, 0)
            case Refused(code="idempotency-key-reused" | "pipeline-broken"):
                self._check_others(call, refused)
        if low >= 0:
            yield self._claim(call, low, self.capped(call, high), "refusal", what)

    def capped(self, call: Call, high: int) -> int:
        """Return a last prefix before what the call's key stands for was stored.

        From then on a repetition gets that outcome; nothing else may answer it.
        """
        request = call.request
        key = request.key if isinstance(request, Append | Send) else ""
        return min(high, self._owners.first_of_key.get(key, high)) if key else high

    def _expected(self, request: Request, stream: str, expected: int) -> bool:
        """Whether a conflict is about what the call expected; else a command gave up."""
        if isinstance(request, Append):
            return any(w.stream == stream and w.expected == expected for w in request.writes)
        return isinstance(request, Send) and request.expected_version == expected

    def _excluded(self, call: Call, request: Request, position: int) -> int:
        """Return the prefix with the event that a condition excludes; -1 when it does not."""
        condition = request.condition if isinstance(request, Append) else None
        if condition is None:
            return -1
        log = self._log
        rank = log.rank(position)
        selected = rank >= 0 and condition.filter.matches(log.types[rank], log.tags[rank])
        if not selected or position <= condition.after:
            evidence = f"its condition does not exclude it, after {condition.after}"
            self._report("refusal", f"{evidence}: {log.row(position - 1)}", call)
            return -1
        return rank + 1

    def _check_others(self, call: Call, refused: Refused) -> None:
        """Check that another call of the key or the pipeline justifies a refusal."""
        request = call.request
        if isinstance(request, Append) and refused.code == "pipeline-broken":
            if self._pipelines.get(request.pipeline, NEVER) > call.begin:
                self._report("refusal", "no earlier append of the pipeline failed", call)
        elif isinstance(request, Append | Send) and refused.code == "idempotency-key-reused":
            end = call.until
            others = [c for c in self._keys.get(request.key, ()) if c.begin < end]
            if not any(_differs(call, each) for each in others):
                self._report("refusal", "nobody used the key with another content", call)


def _breaks(outcome: Outcome | None) -> bool:
    if isinstance(outcome, Stored):
        return outcome.duplicate
    return isinstance(outcome, Refused) and outcome.code != "pipeline-broken"


def _differs(one: Call, other: Call) -> bool:
    """Whether another call may have stored the key with another content."""
    stored = other.is_open or not isinstance(other.outcome, Refused)
    return stored and identity(one) != identity(other)
