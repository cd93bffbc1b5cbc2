"""Whether there is an order of all that is consistent with time, and what it was when.

Each event was stored at one moment, in the order of positions. So that was not before any call
began whose event comes earlier, and not after any call ended whose event comes later: two running
extremes give the earliest and the latest moment of each event. Claims narrow them down. All of it
agrees if and only if no earliest moment is after a latest one.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from headwater.testing.history.calls import Call
from headwater.testing.history.claims import Claim
from headwater.testing.history.log import Log
from headwater.testing.history.owners import Owners
from headwater.testing.history.verdict import Report


class Order:
    """The earliest and latest moment of each event; `check` narrows them down by claims."""

    def __init__(self, log: Log, owners: Owners, report: Report) -> None:
        """Take the moments from the calls that stored the events."""
        self._log = log
        self._owners = owners
        self._report = report
        self._earliest = list(accumulate(owners.begins, max))
        self._latest = _running_min(owners.ends)

    def window(self, begin: int, end: int) -> tuple[int, int]:
        """Return the first and the last prefix that there may have been from begin to end."""
        return bisect_left(self._latest, begin), bisect_right(self._earliest, end)

    def check(self, claims: Sequence[Claim]) -> None:
        """Check the events, then the claims against them, then the claims among each other."""
        self._check_events()
        good = [claim for claim in claims if self._holds(claim)]
        begins, ends = list(self._owners.begins), list(self._owners.ends)
        for claim in good:
            if claim.low:
                ends[claim.low - 1] = min(ends[claim.low - 1], claim.end)
        latest = _running_min(ends)
        for claim in good:
            if claim.high < len(ends):
                if latest[claim.high] < claim.begin:
                    self._report_back(claim, good, latest[claim.high])
                begins[claim.high] = max(begins[claim.high], claim.begin)
        self._earliest = list(accumulate(begins, max))
        self._latest = latest

    def _check_events(self) -> None:
        """Check that what ended before something began comes before it."""
        owners, seen = self._owners, set()
        pairs = zip(self._earliest, self._latest, strict=True)
        for rank in [rank for rank, (earliest, latest) in enumerate(pairs) if earliest > latest]:
            earliest, latest = self._earliest[rank], self._latest[rank]
            if (earliest, latest) in seen:
                continue
            seen.add((earliest, latest))
            before = owners.begins.index(earliest)
            after = owners.ends.index(latest, rank)
            evidence = (
                f"began after the other had ended, but comes before it: {self._log.row(before)}, "
                f"{self._log.row(after)}"
            )
            self._report("real-time", evidence, self._owner(before), self._owner(after))

    def _owner(self, rank: int) -> Call | None:
        return self._owners.appended[rank] or self._owners.sent[rank]

    def _holds(self, claim: Claim) -> bool:
        """Check a claim against the events."""
        log, begins, ends = self._log, self._owners.begins, self._owners.ends
        rule, other = claim.rule, None
        if claim.low > len(log):
            reason = log.row(len(log))
        elif claim.low > claim.high:
            reason = "it was over when its own idempotency key was stored"
        elif claim.low and self._earliest[claim.low - 1] > claim.end:
            other = self._owner(begins.index(self._earliest[claim.low - 1]))
            reason = f"it was not yet so, {log.row(claim.low - 1)}"
        elif claim.high < len(log) and self._latest[claim.high] < claim.begin:
            rule = "stale" if rule == "read" else rule
            other = self._owner(ends.index(self._latest[claim.high], claim.high))
            reason = f"it was no longer so, {log.row(claim.high)}"
        else:
            return True
        self._report(rule, f"{claim.what}: {reason}", claim.call, other)
        return False

    def _report_back(self, claim: Claim, claims: Sequence[Claim], moment: int) -> None:
        """Report a claim that is older than one that ended before it began."""
        other = next((c.call for c in claims if c.end == moment and c.low > claim.high), None)
        evidence = f"{claim.what}: more had been seen before, {self._log.row(claim.high)}"
        rule = "back" if claim.rule == "read" else claim.rule
        self._report(rule, evidence, claim.call, other)


def _running_min(ends: Sequence[int]) -> list[int]:
    latest = list(accumulate(reversed(ends), min))
    latest.reverse()
    return latest
