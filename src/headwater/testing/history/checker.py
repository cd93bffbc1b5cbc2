"""The checker: do a history of calls and the log agree?

Its time grows with calls and events, its memory, too; see `domain` for the part that asks the
domain, and `Log.matching` for conditions.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from headwater.eventstore import StoredEvent, StreamStore
from headwater.testing.history.calls import Send
from headwater.testing.history.claims import Claims
from headwater.testing.history.domain import AggregateRules, Judge, ViewRules, asked_about
from headwater.testing.history.log import Log
from headwater.testing.history.order import Order
from headwater.testing.history.owners import Owners
from headwater.testing.history.recorder import History
from headwater.testing.history.verdict import Report, Verdict

Foreign = Callable[[StoredEvent], bool]


class _Checker:
    """One check: first it takes the events, as they are read, then it judges."""

    def __init__(
        self,
        history: History,
        rules: Sequence[AggregateRules],
        views: Sequence[ViewRules],
        foreign: Foreign | None,
        limit: int,
        *,
        shard: int = 0,
        shards: int = 1,
    ) -> None:
        self._calls = history.calls
        self._rules = rules
        self._views = views
        self._report = Report(limit)
        names = tuple(f"{rule.name}/" for rule in rules)
        shown = {stream for _, stream in asked_about(self._calls, views)}
        self.log = Log(
            self._report,
            shard=shard,
            shards=shards,
            conversations=frozenset(
                call.request.conversation for call in self._calls if type(call.request) is Send
            ),
            folded=lambda stream: stream.startswith(names) or stream in shown,
            foreign=foreign,
        )

    def verdict(self) -> Verdict:
        """Judge what was taken."""
        log, report = self.log, self._report
        owners = Owners(log, report)
        owners.settle(self._calls)
        claims = Claims(log, owners, report)
        order = Order(log, owners, report)
        order.check(claims.of(self._calls))
        judge = Judge(log, owners, order, claims, report)
        unjudged = judge.commands(self._calls, self._rules)
        judge.views(self._calls, self._views)
        violations = tuple(report.violations)
        return Verdict(len(self._calls), len(log), violations, report.found, unjudged)


def check_history(
    history: History,
    log: Iterable[StoredEvent],
    *,
    rules: Sequence[AggregateRules] = (),
    views: Sequence[ViewRules] = (),
    foreign: Foreign | None = None,
    limit: int = 100,
) -> Verdict:
    """Judge a history by the log of one event store: all that is in it, in order.

    Args:
        history: all calls that changed the log, and any others.
        log: what is stored at the end, when nothing is under way any more.
        rules: judge commands by their aggregates.
        views: judge queries by the streams that they show.
        foreign: which events were stored by nobody who recorded it, such as those of sagas.
        limit: how many violations are kept; all are counted.
    """
    checker = _Checker(history, rules, views, foreign, limit)
    checker.log.add(log)
    return checker.verdict()


async def check_store(
    history: History,
    store: StreamStore,
    *,
    rules: Sequence[AggregateRules] = (),
    views: Sequence[ViewRules] = (),
    foreign: Foreign | None = None,
    limit: int = 100,
) -> Verdict:
    """Judge a history by what a store holds now, each of its shards by itself; see `check_history`.

    The log is read a page at a time, and not kept.
    """
    verdict = Verdict(0, 0)
    count = len(store.shards)
    for number, log in enumerate(store.shards):
        part = history.of(shard=number, shards=count)
        checker = _Checker(part, rules, views, foreign, limit, shard=number, shards=count)
        async for page in log.read():
            checker.log.add(page.events)
        verdict += checker.verdict()
    return msgspec.structs.replace(verdict, calls=len(history))  # queries are asked of each
