"""What the checker found."""

import msgspec

from headwater.testing.history.calls import Call

SHOWN_MAX = 20


class Violation(msgspec.Struct, frozen=True):
    """Something that cannot be, with what shows it.

    Attributes:
        rule: which rule is broken; the page about the checker lists them.
        call: whose answer it contradicts, or who caused it; None when it is the log itself.
        evidence: what was told and what is stored.
        other: the call that the first one contradicts, if it is one.
    """

    rule: str
    call: Call | None
    evidence: str
    other: Call | None = None

    def __str__(self) -> str:
        """Return it as one line."""
        who = f"{self.call}: " if self.call is not None else ""
        against = f" (against {self.other})" if self.other is not None else ""
        return f"{self.rule}: {who}{self.evidence}{against}"


class Verdict(msgspec.Struct, frozen=True):
    """How a history and a log agree.

    Attributes:
        calls: how many there were.
        events: how many the log has.
        violations: the first ones found, at most as many as asked for.
        found: how many were found in all.
        unjudged: refusals by the domain for which no rules were given.
    """

    calls: int
    events: int
    violations: tuple[Violation, ...] = ()
    found: int = 0
    unjudged: int = 0

    def __str__(self) -> str:
        """Return one line, and one for each violation."""
        head = f"history: {self.calls:,} calls, {self.events:,} events, {self.found:,} violations"
        lines = [f"  {violation}" for violation in self.violations[:SHOWN_MAX]]
        if self.found > len(lines):
            lines.append(f"  and {self.found - len(lines):,} more")
        return "\n".join([head, *lines])

    __repr__ = __str__  # so that ``assert not verdict.violations, verdict`` shows them

    def __add__(self, other: "Verdict") -> "Verdict":
        """Return the verdict about both, of two stores or shards."""
        return Verdict(
            self.calls + other.calls,
            self.events + other.events,
            (*self.violations, *other.violations),
            self.found + other.found,
            self.unjudged + other.unjudged,
        )


class Report:
    """Collects violations."""

    def __init__(self, limit: int) -> None:
        """Keep so many; count all."""
        self._limit = limit
        self.violations: list[Violation] = []
        self.found = 0

    def __call__(
        self, rule: str, evidence: str, call: Call | None = None, other: Call | None = None
    ) -> None:
        """Note a violation."""
        self.found += 1
        if len(self.violations) < self._limit:
            self.violations.append(Violation(rule, call, evidence, other))
