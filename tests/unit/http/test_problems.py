"""What a caller is told about an error of a store: its kind and what to do, not its place."""

import msgspec
import pytest
from structlog.testing import capture_logs

from headwater._http.problems import problem_of
from headwater.errors import (
    DiskFull,
    HeadwaterError,
    SchemaTooNew,
    ShardMismatch,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
    from_problem,
)

SCOPE = {"method": "POST", "path": "/items"}
POSTGRES = "postgresql://db7.internal:5432/shop?schema=accounts"
AWAY = "the server cannot be reached ([Errno 111] Connect call failed ('10.0.0.7', 5432))"
SECRETS = ("internal", "10.0.0.7", "5432", "accounts", "/var", "shop.db", "secret")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StoreUnavailable(store=POSTGRES, reason=AWAY), ("PostgreSQL", "retry, after 1 s")),
        (
            StoreUnavailable(store=POSTGRES, reason=f"{AWAY}; nothing was stored"),
            ("PostgreSQL", "nothing was stored"),
        ),
        (
            StoreUnavailable(
                store=POSTGRES,
                reason=f"{AWAY}; it is unknown whether it was stored: look into the log",
                retry_after_s=2.5,
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
    assert problem.status == error.status
    (entry,) = logs
    assert entry["error"] == str(error)
    assert (entry["path"], entry["code"]) == ("/items", error.code)


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
