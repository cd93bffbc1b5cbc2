"""Which call stored which event: what was acknowledged is there, once, and nothing else is.

Every event must be somebody's. Of an append that was acknowledged the positions are known; of one
whose outcome is unknown the events are looked for by their content; of a command by its
conversation. Calls with one idempotency key are one: at most one of them stores anything.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

import msgspec

from headwater.testing.history.calls import NEVER, Append, Call, Done, Refused, Send, Stored
from headwater.testing.history.log import Log
from headwater.testing.history.verdict import Report

ALWAYS = -NEVER  # before everything


class Owners:
    """Finds the owner of each event, and between which instants it was stored."""

    def __init__(self, log: Log, report: Report) -> None:
        """Begin with nothing owned."""
        self._log = log
        self._report = report
        count = len(log)
        self.appended: list[Call | None] = [None] * count
        self.sent: list[Call | None] = [None] * count
        self.begins = [ALWAYS] * count
        self.ends = [NEVER] * count
        self.first_of_key: dict[str, int] = {}  # the rank of the first event stored under it
        self.commands: list[tuple[Call, int, int]] = []  # what a command stored: ranks
        self.unchanged: list[tuple[Call, int]] = []  # acknowledged without events; since when
        self.told_of_key: dict[str, Stored | Done] = {}
        self._missing: list[list[Call]] = []
        self._by_content: dict[tuple[str, int], Call] | None = None

    def settle(self, calls: Sequence[Call]) -> None:
        """Find the owners of all events among these calls."""
        keyed: dict[str, list[Call]] = defaultdict(list)
        commands: dict[str, list[Call]] = defaultdict(list)
        for call in calls:
            request = call.request
            if type(request) is Append:
                if request.key:
                    keyed[request.key].append(call)
                elif type(call.outcome) is Stored:
                    self._place(call, call.outcome, call.begin, call.until)
                elif request.writes:
                    self._missing.append([call])
            elif type(request) is Send:
                commands[request.key or f"\0{request.conversation}"].append(call)
        for key, several in keyed.items():
            self._settle_key(key, several)
        for several in commands.values():
            self._settle_command(several)
        self._find_missing(calls)

    # --- appends ---

    def _settle_key(self, key: str, calls: list[Call]) -> None:
        """Settle the appends with one idempotency key."""
        told = [call for call in calls if type(call.outcome) is Stored]
        self._agree(key, told, calls)
        if not told:
            self._missing.append(calls)
            return
        may = [call for call in calls if call.is_open or _is_stored(call)]
        # Of several attempts each may have decided otherwise: the one that is there stored it.
        tellers = [call for call in told if not _duplicate(call)] or may
        outcome = told[0].outcome
        assert isinstance(outcome, Stored)
        self.told_of_key[key] = outcome
        rank = self._log.rank(outcome.first)
        teller = next((c for c in tellers if self._is_at(rank, _content(c))), tellers[0])
        alike = [call for call in tellers if _content(call) == _content(teller)]
        end = min(call.until for call in may if _is_stored(call))
        self._place(teller, outcome, min(call.begin for call in alike), end)
        if outcome.last >= outcome.first:
            self.first_of_key[key] = rank

    def _agree(self, key: str, told: list[Call], calls: list[Call]) -> None:
        """Check that all who were told an outcome of a key were told the same, one as the first."""
        for call in told[1:]:
            first, again = told[0].outcome, call.outcome
            assert isinstance(first, Stored | Done)
            assert isinstance(again, Stored | Done)
            same = msgspec.structs.replace(first, duplicate=again.duplicate)
            if same != again or identity(told[0]) != identity(call):
                evidence = f"key {key!r} has two outcomes, {first} and {again}"
                self._report("key", evidence, call, told[0])
        originals = sorted((c for c in told if not _duplicate(c)), key=attrgetter("begin"))
        for call in originals[1:]:
            evidence = f"key {key!r} was stored before, but this is not marked as a duplicate"
            self._report("key", evidence, call, originals[0])
        if originals:
            earlier = min(filter(_is_stored, calls), key=attrgetter("until"))
            if earlier.until < originals[0].begin:
                evidence = f"key {key!r} was answered before, but this is not marked as a duplicate"
                self._report("key", evidence, originals[0], earlier)

    def _place(self, call: Call, told: Stored, begin: int, end: int) -> None:
        """Check that an acknowledged append is where it was told to be, and own it."""
        request = call.request
        assert isinstance(request, Append)
        log = self._log
        rank = first = log.rank(told.first)
        versions: list[int] = []
        for write in request.writes:
            for digest in write.events:
                here = 0 <= rank < len(log)
                if not (here and log.digests[rank] == digest and log.streams[rank] == write.stream):
                    evidence = f"was stored at {told.first} to {told.last}, but {log.row(rank)}"
                    self._report("lost", evidence, call)
                    self._missing.append([call])
                    return
                rank += 1
            if write.events:
                versions.append(log.versions[rank - 1])
            else:
                versions.append(log.version_at(write.stream, log.prefix(told.first - 1)))
        count = sum(len(write.events) for write in request.writes)
        if tuple(versions) != told.versions or told.last - told.first + 1 != count:
            evidence = f"was told {told}, but the streams are at {versions} after {count} events"
            self._report("lost", evidence, call)
        elif count and log.times[first] != told.time:
            evidence = f"was told time {told.time}, stored is {log.times[first]}"
            self._report("lost", evidence, call)
        if count:
            self._own(self.appended, call, range(first, rank), begin, end)
            self._check_expectation(call, first)
        else:
            self._check_expectation(call, min(log.prefix(told.last), len(log)))
            self.unchanged.append((call, begin))

    def _own(
        self, owners: list[Call | None], call: Call, ranks: range, begin: int, end: int
    ) -> None:
        begins, ends = self.begins, self.ends
        for rank in ranks:
            other = owners[rank]
            if other is not None and other is not call:
                evidence = f"position {self._log.position(rank)} was told to two calls"
                self._report("twice", evidence, call, other)
            owners[rank] = call
            begins[rank] = max(begins[rank], begin)
            ends[rank] = min(ends[rank], end)

    def _check_expectation(self, call: Call, first: int) -> None:
        """Check that what an append expected was so just before it."""
        request = call.request
        assert isinstance(request, Append)
        log, rank = self._log, first
        for write in request.writes:
            if write.expected is not None:
                count = len(write.events)
                actual = log.versions[rank] - 1 if count else log.version_at(write.stream, first)
                if actual != write.expected:
                    evidence = f"expected {write.stream!r} at {write.expected}, it was at {actual}"
                    self._report("expectation", evidence, call)
            rank += len(write.events)
        condition = request.condition
        if condition is not None:
            excluded = log.matching(condition.filter, log.prefix(condition.after), first)
            hit = next(excluded, None)
            if hit is not None:
                evidence = f"nothing like it was to be after {condition.after}: {log.row(hit)}"
                self._report("condition", evidence, call)

    # --- commands ---

    def _settle_command(self, calls: list[Call]) -> None:
        """Settle the attempts of one command."""
        told = [call for call in calls if type(call.outcome) is Done]
        request = calls[0].request
        assert isinstance(request, Send)
        if request.key:
            self._agree(request.key, told, calls)
        blocks = list(self._blocks(calls))
        for again in blocks[1:]:
            evidence = f"it had its effect twice: {self._log.row(again[0])}"
            self._report("twice", evidence, calls[0], self._attempt(calls, blocks[0]))
            self._own(self.sent, calls[0], range(again[0], again[1] + 1), ALWAYS, NEVER)
        if blocks:
            self._place_command(calls, told, blocks[0])
        elif told:
            may = [call for call in calls if call.is_open or _is_stored(call)]
            first = min(call.begin for call in may)
            self.unchanged += [(call, first if _duplicate(call) else call.begin) for call in told]
        else:
            self._report_absent(calls)

    def _blocks(self, calls: list[Call]) -> Iterator[tuple[int, int, str]]:
        """Return what the attempts stored: first rank, last rank, conversation."""
        log = self._log
        request = calls[0].request
        assert isinstance(request, Send)
        found = sorted(
            (rank, cause, conversation)
            for conversation in {c.request.conversation for c in calls if type(c.request) is Send}
            for rank, cause in log.said.get(conversation, ())
            if request.stream in ("", log.streams[rank]) and not (log.foreign and log.foreign[rank])
        )
        for (_, conversation), several in groupby(found, key=lambda row: row[1:]):
            ranks = [rank for rank, _, _ in several]
            yield ranks[0], ranks[-1], conversation

    def _attempt(self, calls: list[Call], block: tuple[int, int, str]) -> Call:
        """Return the attempt that stored a block."""
        own = _of_conversation(calls, block[2])
        return next((c for c in own if c.is_open or type(c.outcome) is Done), own[0])

    def _place_command(
        self, calls: list[Call], told: list[Call], block: tuple[int, int, str]
    ) -> None:
        log = self._log
        first, last, _ = block
        call = self._attempt(calls, block)
        request = call.request
        assert isinstance(request, Send)
        for each in told:
            outcome = each.outcome
            assert isinstance(outcome, Done)
            position = outcome.position or log.position(last)
            if (outcome.version, position) != (log.versions[last], log.position(last)):
                evidence = f"was told {outcome}, but {log.row(last)}"
                self._report("lost", evidence, each)
        if isinstance(call.outcome, Refused) and call.outcome.outcome == "not stored":
            self._report_not_stored(call, first)
        expected = request.expected_version
        if expected is not None and log.versions[first] - 1 != expected:
            evidence = f"expected version {expected}, it was at {log.versions[first] - 1}"
            self._report("expectation", evidence, call)
        end = min((each.until for each in calls if _is_stored(each)), default=NEVER)
        begin = min(each.begin for each in _of_conversation(calls, block[2]))
        self._own(self.sent, call, range(first, last + 1), begin, end)
        self.commands.append((call, first, last))
        if request.key:
            self.first_of_key[request.key] = first

    # --- what nobody was told ---

    def _find_missing(self, calls: Iterable[Call]) -> None:
        """Find the owners of what is left; what remains then should not be there."""
        log = self._log
        free = [
            rank
            for rank, (appended, sent) in enumerate(zip(self.appended, self.sent, strict=True))
            if appended is None and sent is None and not (log.foreign and log.foreign[rank])
        ]
        wanted = self._wanted() if free else {}
        done: set[int] = set()
        for rank in free:
            if self.appended[rank] is None and not self._claimed(rank, wanted, done):
                self._refute(rank, calls)
        for several in self._missing:
            if id(several) not in done:
                self._report_absent(several)

    def _wanted(self) -> dict[tuple[str, int], list[tuple[Call, list[Call]]]]:
        """Return the appends that nobody was told of, with their attempts, by their first event.

        The likeliest last: who knows nothing may have stored it rather than who was refused, and
        the whole of a larger append rather than a small one that is like its beginning.
        """
        wanted: dict[tuple[str, int], list[tuple[Call, list[Call]]]] = defaultdict(list)
        for several in self._missing:
            for call in several:
                if content := _content(call):
                    wanted[content[0]].append((call, several))
        for entries in wanted.values():
            entries.sort(key=_likelihood)
        return wanted

    def _report_absent(self, calls: Iterable[Call]) -> None:
        """Report those who were told that what is not there was stored."""
        for call in calls:
            if _is_stored(call) and isinstance(call.outcome, Refused):
                self._report("lost", f"{call.outcome.code}: was stored, but is not there", call)

    def _claimed(
        self,
        rank: int,
        wanted: dict[tuple[str, int], list[tuple[Call, list[Call]]]],
        done: set[int],
    ) -> bool:
        """Whether an append that nobody was told of is what is stored here; it owns it then."""
        entries = wanted.get((self._log.streams[rank], self._log.digests[rank]), [])
        for place in range(len(entries) - 1, -1, -1):
            call, several = entries[place]
            content = _content(call)
            if id(several) in done:
                del entries[place]
                continue
            if not self._is_at(rank, content):
                continue
            done.add(id(several))
            end = NEVER
            if isinstance(call.outcome, Stored):
                self._report("lost", f"but it is elsewhere: {self._log.row(rank)}", call)
            elif _is_stored(call):
                end = call.until
            elif not call.is_open:
                self._report_not_stored(call, rank)
            alike = [each for each in several if _content(each) == content]
            begin = min(each.begin for each in alike)
            self._own(self.appended, call, range(rank, rank + len(content)), begin, end)
            request = call.request
            assert isinstance(request, Append)
            if all(each.request == request for each in alike):
                self._check_expectation(call, rank)
            if request.key:
                self.first_of_key[request.key] = rank
            return True
        return False

    def _report_not_stored(self, call: Call, rank: int) -> None:
        assert isinstance(call.outcome, Refused)
        evidence = f"{call.outcome.code}: not stored, but {self._log.row(rank)}"
        self._report("not-stored", evidence, call)

    def _is_at(self, rank: int, content: tuple[tuple[str, int], ...]) -> bool:
        log = self._log
        return 0 <= rank <= len(log) - len(content) and all(
            self.appended[place] is None
            and log.digests[place] == digest
            and log.streams[place] == stream
            for place, (stream, digest) in enumerate(content, start=rank)
        )

    def _refute(self, rank: int, calls: Iterable[Call]) -> None:
        """Report an event that nobody can have stored."""
        if self._by_content is None:
            self._by_content = {}
            for call in calls:
                for each in _content(call):
                    self._by_content.setdefault(each, call)
        owner = self._by_content.get((self._log.streams[rank], self._log.digests[rank]))
        if owner is not None:
            self._report("twice", f"it is there once more: {self._log.row(rank)}", owner)
        else:
            self._report("invented", f"nobody stored it: {self._log.row(rank)}")


def _is_stored(call: Call) -> bool:
    """Whether it was told that what it asked for is stored, be it in an error."""
    outcome = call.outcome
    return isinstance(outcome, Stored | Done) or (
        isinstance(outcome, Refused) and outcome.outcome == "stored"
    )


def _duplicate(call: Call) -> bool:
    return isinstance(call.outcome, Stored | Done) and call.outcome.duplicate


def _of_conversation(calls: Iterable[Call], conversation: str) -> list[Call]:
    return [
        call
        for call in calls
        if isinstance(call.request, Send) and call.request.conversation == conversation
    ]


def _content(call: Call) -> tuple[tuple[str, int], ...]:
    """Return what an append stores: stream and digest of each event."""
    request = call.request
    if type(request) is not Append:
        return ()
    return tuple([(write.stream, digest) for write in request.writes for digest in write.events])


def identity(call: Call) -> tuple[object, ...]:
    """Return what must be the same whenever an idempotency key is used."""
    request = call.request
    if type(request) is Send:
        return request.stream, request.name, bytes(request.content)
    return (request.fingerprint,) if type(request) is Append else ()


def _likelihood(entry: tuple[Call, list[Call]]) -> tuple[bool, int]:
    call, _ = entry
    return call.is_open, len(_content(call))
