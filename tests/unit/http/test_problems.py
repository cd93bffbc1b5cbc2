"""What a caller is told about an error of a store: its kind and what to do, not its place."""

import msgspec
import pytest
from litestar.exceptions import HTTPException
from structlog.testing import capture_logs

from headwater._http.problems import problem_of
from headwater.errors import (
    ConnectionLost,
    DeadlineExceeded,
    DiskFull,
    EventUnreadable,
    HeadwaterError,
    Outcome,
    RemoteError,
    SchemaTooNew,
    ShardMismatch,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
    Unexpected,
    Unstorable,
    ViewUnreadable,
    from_problem,
)

SCOPE = {"method": "POST", "path": "/items"}
POSTGRES = "postgresql://db7.internal:5432/shop?schema=accounts"
AWAY = "the server cannot be reached ([Errno 111] Connect call failed ('10.0.0.7', 5432))"
OUTCOMES: tuple[Outcome, ...] = ("stored", "not stored", "unknown")
SECRETS = ("internal", "10.0.0.7", "5432", "accounts", "/var", "shop.db", "secret")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StoreUnavailable(store=POSTGRES, reason=f"{AWAY}:"), ("PostgreSQL", "retry, after 1 s")),
        (
            StoreUnavailable(store=POSTGRES, reason=f"{AWAY}!", outcome="not stored"),
            ("PostgreSQL", "nothing was stored"),
        ),
        (
            StoreUnavailable(store=POSTGRES, reason=f"{AWAY}?", outcome="stored"),
            ("was stored before", "send it again"),
        ),
        (
            StoreUnavailable(
                store=POSTGRES, reason=f"{AWAY}.", retry_after_s=2.5, outcome="unknown"
            ),
            ("unknown whether", "same Idempotency-Key", "after 3 s"),
        ),
        (
            StoreUnavailable(store="/var/shop.db", reason="it is locked: stop secret"),
            ("SQLite", "retry"),
        ),
        (StoreUnavailable(store="memory", reason="closed"), ("'memory'",)),
        (DiskFull(store=POSTGRES), ("PostgreSQL", "nothing was stored")),
        (DiskFull(store="/var/shop.db"), ("SQLite",)),
        (StoreCorrupt(store=POSTGRES, reason="table accounts was dropped"), ("in the log",)),
        (StoreError(store=POSTGRES, reason="secret"), ("in the log",)),
        (SchemaTooNew(store=POSTGRES, actual=9, expected=4), ("PostgreSQL", "schema 9")),
        (ShardMismatch(store=POSTGRES, reason="it is shard 1 of accounts"), ("PostgreSQL",)),
    ],
)
def test_errors_of_stores(error: HeadwaterError, words: tuple[str, ...]) -> None:
    """A caller gets the class, the kind of store and the remedy; the log gets all of it."""
    with capture_logs() as logs:
        problem = problem_of(error, SCOPE)
    document = msgspec.json.decode(problem.body)
    for word in words:
        assert word in document["detail"]
    text = problem.body.decode()
    assert not [secret for secret in SECRETS if secret in text]
    received = from_problem(document, status=problem.status)
    assert type(received) is type(error)
    assert received.outcome == error.outcome
    assert problem.status == error.status
    (entry,) = logs
    assert entry["error"] == str(error)
    assert (entry["path"], entry["code"]) == ("/items", error.code)


@pytest.mark.parametrize("outcome", ["stored", "not stored", "unknown"])
@pytest.mark.parametrize("words", ["nothing was stored", "it is unknown whether"])
def test_the_outcome_is_not_read_from_words(outcome: Outcome, words: str) -> None:
    """What a reason says in English, such as that of a driver, decides nothing."""
    error = StoreUnavailable(store=POSTGRES, reason=words, outcome=outcome)
    document = msgspec.json.decode(problem_of(error, SCOPE).body)
    assert document["outcome"] == outcome
    assert ("nothing was stored" in document["detail"]) == (outcome == "not stored")
    assert ("unknown whether" in document["detail"]) == (outcome == "unknown")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "error",
    [
        *(StoreUnavailable(store=POSTGRES, reason=AWAY, outcome=found) for found in OUTCOMES),
        StoreError(store=POSTGRES, reason="r"),
        ConnectionLost(target="prices", reason="r"),
        DeadlineExceeded(action="GetPrice", timeout_s=1.0),
        RemoteError(source="prices", remote_status=500, detail="d"),
        ValueError("a fault"),
    ],
)
def test_a_read_stores_nothing(method: str, error: Exception) -> None:
    """Of a read nothing is said of storing, in words; as data nothing was stored."""
    document = msgspec.json.decode(problem_of(error, {**SCOPE, "method": method}).body)
    assert document["outcome"] == "not stored"
    assert "was stored" not in document["detail"]
    assert "unknown whether" not in document["detail"]


def test_repeated_failures() -> None:
    """The log is not flooded with what is the same for every request."""
    with capture_logs() as logs:
        for _ in range(1000):
            problem_of(StoreUnavailable(store=POSTGRES, reason="again and again"), SCOPE)
        for number in range(200):
            problem_of(StoreUnavailable(store=POSTGRES, reason=f"cause {number}"), SCOPE)
    again = [entry for entry in logs if "again and again" in entry["error"]]
    assert 0 < len(again) < 100
    assert len(logs) == len(again) + 200


@pytest.mark.parametrize(
    "error",
    [
        ValueError("password=secret"),
        Unexpected(reference="ValueError('password=secret')"),
        EventUnreadable(type="ItemAdded", reason="expected int, got secret"),
        ViewUnreadable(view="ItemView", key="i1", reason="expected int, got secret"),
        Unstorable(name="ItemAdded", field="stock", value="-1", reason="not an int"),
        HTTPException(status_code=500, detail="secret"),
    ],
)
def test_a_500_has_a_reference(error: Exception) -> None:
    """Each 500 has a reference, which is in the log beside the traceback, and tells no secrets."""
    with capture_logs() as logs:
        problem = problem_of(error, SCOPE)
    document = msgspec.json.decode(problem.body)
    assert problem.status == document["status"] == 500
    assert "secret" not in problem.body.decode()
    (entry,) = logs
    assert entry["reference"] == document["reference"]
    assert entry["exc_info"] is error
