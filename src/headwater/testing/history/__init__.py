"""Histories: the log is its own witness.

Calls are recorded with what was asked and answered, and when; afterwards the log tells whether all
of it can have been so: nothing acknowledged is missing, nothing happened twice, every expectation
held, every refusal was justified, and no reader saw less than somebody had seen before.

::

    history = History()
    store = RecordedStore(history, store)
    ...  # use the store
    verdict = await check_store(history, store)
    assert not verdict.violations, verdict
"""

from headwater.testing.history.calls import (
    Answer,
    Append,
    Ask,
    Call,
    Done,
    Found,
    Head,
    Lookup,
    Number,
    Pages,
    Read,
    Refused,
    Send,
    Stored,
    Version,
    Write,
    canonical,
    digest_of,
    refused_by,
)
from headwater.testing.history.checker import check_history, check_store
from headwater.testing.history.domain import AggregateRules, ViewRules
from headwater.testing.history.recorder import History, Pending
from headwater.testing.history.verdict import Verdict, Violation
from headwater.testing.history.wrappers import (
    RecordedCommands,
    RecordedQueries,
    RecordedStore,
    place_of,
)

__all__ = [
    "AggregateRules",
    "Answer",
    "Append",
    "Ask",
    "Call",
    "Done",
    "Found",
    "Head",
    "History",
    "Lookup",
    "Number",
    "Pages",
    "Pending",
    "Read",
    "RecordedCommands",
    "RecordedQueries",
    "RecordedStore",
    "Refused",
    "Send",
    "Stored",
    "Verdict",
    "Version",
    "ViewRules",
    "Violation",
    "Write",
    "canonical",
    "check_history",
    "check_store",
    "digest_of",
    "place_of",
    "refused_by",
]
