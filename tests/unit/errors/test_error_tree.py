"""The tree of errors: messages, the way across the network, pickling."""

import copy
import inspect
import pickle
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater import errors
from headwater.errors import (
    AggregateNotFound,
    ConcurrencyConflict,
    Conflict,
    ConnectionLost,
    Draining,
    Forbidden,
    HeadwaterError,
    InvalidInput,
    NoInstance,
    Outcome,
    Overloaded,
    Rejection,
    RemoteError,
    RemoteRejection,
    StoreUnavailable,
    TooLarge,
    Unavailable,
    ViewNotFound,
    from_problem,
)

TREE = [
    cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, HeadwaterError)
]
SAMPLES: dict[Any, Any] = {
    str: "some 'text' {x}",
    int: 42,
    float: 1.5,
    bool: True,
    list[str]: ["a", "b"],
    tuple[str, ...]: ("a", "b"),
    dict[str, str]: {"a": "b"},
}


def sample(cls: type[HeadwaterError]) -> HeadwaterError:
    hints = get_type_hints(cls)
    return cls(**{name: SAMPLES[hints[name]] for name in cls._names})


@pytest.mark.parametrize("cls", TREE)
def test_crosses_the_network(cls: type[HeadwaterError]) -> None:
    """Every error comes out of its problem document as the same class with the same fields."""
    error = sample(cls)
    document = msgspec.json.decode(msgspec.json.encode(error.to_problem()))
    back = from_problem(document, status=error.status)
    assert type(back) is cls
    assert back.fields() == error.fields()
    assert str(back) == str(error)


@pytest.mark.parametrize("cls", TREE)
def test_problem_document(cls: type[HeadwaterError]) -> None:
    """A problem document has the members of RFC 9457, and the stable code."""
    problem = sample(cls).to_problem()
    assert problem["type"] == f"urn:headwater:error:{cls.code}"
    assert problem["status"] == cls.status
    assert 400 <= problem["status"] < 600
    assert problem["detail"] == str(sample(cls))
    assert problem["title"]


@pytest.mark.parametrize("cls", TREE)
def test_pickles_and_copies(cls: type[HeadwaterError]) -> None:
    """An error survives pickling and copying."""
    error = sample(cls)
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(back) is cls
        assert back.fields() == error.fields()
        assert str(back) == str(error)


@pytest.mark.parametrize("cls", [c for c in TREE if c.template])
def test_template_uses_own_fields_only(cls: type[HeadwaterError]) -> None:
    """A message can be made from the fields of its class, whatever they contain."""
    message = str(sample(cls))
    assert message
    shown = [name for name in cls._names if f"{{{name}" in cls.template]
    for name in shown:
        value = getattr(sample(cls), name)
        assert str(value) in message or repr(value) in message or f"{value:.3f}" in message


def test_codes_are_unique() -> None:
    """No two errors share a code, so that each comes out as itself."""
    codes = [cls.code for cls in TREE]
    assert len(set(codes)) == len(codes)


def test_tree_is_drawn_and_exported() -> None:
    """Every error is drawn in the module's docstring and exported."""
    drawn = errors.__doc__ or ""
    for cls in TREE:
        assert cls.__name__ in drawn
        assert cls.__name__ in errors.__all__


def test_messages_name_actual_expected_and_remedy() -> None:
    """A message says what is, what was expected, and what to do."""
    error = ConcurrencyConflict(stream="Account/7", expected=3, actual=4)
    assert str(error) == (
        "stream 'Account/7' is at version 4, expected 3: reload it and decide again"
    )
    assert str(AggregateNotFound(aggregate="Account", id="7")) == (
        "Account '7' does not exist: create it first or correct the id"
    )


def test_unknown_and_missing_fields_are_refused() -> None:
    """A wrong field in the program is a TypeError that names it."""
    with pytest.raises(TypeError, match=r"unknown fields \['stram'\], missing fields \['stream'\]"):
        ConcurrencyConflict(stram="x", expected=1, actual=2)  # type: ignore[call-arg]


def test_defaults() -> None:
    """A field with a default need not be given, and can be."""
    assert NoInstance(service="x").retry_after_s == 1.0
    assert Overloaded(limit=5, retry_after_s=3.0).fields() == {"retry_after_s": 3.0, "limit": 5}


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (ConcurrencyConflict, Conflict),
        (NoInstance, Unavailable),
        (AggregateNotFound, HeadwaterError),
    ],
)
def test_caught_widely(cls: type[HeadwaterError], base: type[HeadwaterError]) -> None:
    """Whoever catches a branch of the tree catches its leaves."""
    with pytest.raises(base):
        raise sample(cls)


class OutOfStock(Rejection):
    """A refusal of some domain."""

    item: str
    left: int
    sizes: tuple[int, ...] = ()
    template = "only {left} of {item!r} are left: order fewer"


class Plain(Rejection):
    """A refusal without a template."""

    reason: str


@given(st.text(), st.integers(-(2**63), 2**63 - 1), st.lists(st.integers(0, 9)))
def test_domain_rejection_round_trip(item: str, left: int, listed: list[int]) -> None:
    """A domain's own refusal crosses the network as itself, whatever its fields hold."""
    sizes = tuple(listed)
    error = OutOfStock(item=item, left=left, sizes=sizes)
    document = msgspec.json.decode(msgspec.json.encode(error.to_problem()))
    back = from_problem(document)
    assert isinstance(back, OutOfStock)
    assert back.fields() == {"item": item, "left": left, "sizes": sizes}
    assert back.status == 422


def test_code_of_a_domain_rejection() -> None:
    """The code is the class name in kebab case unless stated."""

    class Renamed(Rejection):
        code = "old-name"

    assert OutOfStock.code == "out-of-stock"
    assert Renamed.code == "old-name"
    assert type(from_problem(Renamed().to_problem())) is Renamed


def test_two_domains_use_one_name() -> None:
    """Of several errors with the same code, the one whose fields fit comes out."""

    class Late(Rejection):
        minutes: int

    first = Late

    class Late(Rejection):  # type: ignore[no-redef]  # as another service would
        days: int

    assert type(from_problem(first(minutes=5).to_problem())) is first
    assert type(from_problem(Late(days=1).to_problem())) is Late


def test_fewer_fields_do_not_take_it_all() -> None:
    """A class whose fields are among those of another does not get the errors of the other."""

    class Refused(Rejection):
        item: str
        left: int

    first = Refused

    class Refused(Rejection):  # type: ignore[no-redef]  # as another service would
        """It has no fields, so that those of any problem would do."""

    assert type(from_problem(first(item="x", left=1).to_problem())) is first
    assert type(from_problem(Refused().to_problem())) is Refused


def test_a_domain_uses_a_name_of_ours() -> None:
    """Of two classes with the same code and fields the status tells which it was."""

    class Busy(Rejection):
        code = Draining.code
        retry_after_s: float = 1.0
        service: str

    assert type(from_problem(Draining(service="x").to_problem())) is Draining
    assert type(from_problem(Busy(service="x").to_problem())) is Busy


def test_message_without_template() -> None:
    """Without a template the message is the name and the fields."""
    assert str(Plain(reason="late")) == "plain: reason='late'"
    assert str(Rejection()) == "rejection"


@pytest.mark.parametrize(
    ("problem", "detail"),
    [
        ({"title": "Bad Gateway", "status": 502}, "Bad Gateway"),
        ({"detail": "no", "code": "never-heard-of"}, "no"),
        ({"code": "concurrency-conflict", "detail": "d"}, "d"),
        ({"code": "concurrency-conflict", "fields": {"stream": 1}, "detail": "d"}, "d"),
        ({"code": "concurrency-conflict", "fields": {}, "detail": "d"}, "d"),
        ({"code": "concurrency-conflict", "fields": [], "detail": "d"}, "d"),
        ({"code": ["x"], "detail": "d"}, "d"),
        ({}, "{}"),
        ([1, 2], "[1, 2]"),
        ("<html>", "<html>"),
        (None, "None"),
        ("x" * 9000, "x" * 500),
    ],
)
def test_foreign_problem(problem: Any, detail: str) -> None:
    """What is not one of ours becomes a RemoteError with source, status and what was said."""
    error = from_problem(problem, status=503, source="billing")
    assert isinstance(error, RemoteError)
    assert (error.source, error.remote_status, error.detail) == ("billing", 503, detail)
    assert str(error).startswith("billing answered 503: ")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_any_answer_is_an_error(problem: Any) -> None:
    """No answer of any shape breaks the reading of it."""
    assert isinstance(from_problem({"code": problem, "fields": problem}), HeadwaterError)
    assert isinstance(from_problem(problem), RemoteError)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput(reason="x"), 400),
        (Forbidden(action="x"), 403),
        (ViewNotFound(view="V", key="7"), 404),
        (ConcurrencyConflict(stream="x", expected=1, actual=2), 409),
        (TooLarge(limit_bytes=5), 413),
        (OutOfStock(item="x", left=0), 422),
        (NoInstance(service="x"), 503),
    ],
)
def test_status(error: HeadwaterError, status: int) -> None:
    """Each error has the HTTP status of its kind."""
    assert error.status == status


@pytest.mark.parametrize("outcome", ["stored", "not stored", "unknown"])
def test_the_outcome_crosses_the_network(outcome: Outcome) -> None:
    """What became of the work is data, and the same on the other side, in copies and pickles."""
    error = StoreUnavailable(store="s", reason="r", outcome=outcome)
    over = from_problem(msgspec.json.decode(msgspec.json.encode(error.to_problem())))
    for same in (over, pickle.loads(pickle.dumps(error)), error.replaced(reason="another")):
        assert type(same) is StoreUnavailable
        assert same.outcome == outcome


def test_the_outcome_of_an_unreadable_word_is_the_usual_one() -> None:
    """An outcome that another version may know does not make an error unreadable."""
    problem = ConnectionLost(target="t", reason="r").to_problem() | {"outcome": "perhaps"}
    error = from_problem(problem)
    assert type(error) is ConnectionLost
    assert error.outcome == "unknown"


def test_a_rejection_is_one_also_where_its_class_is_unknown() -> None:
    """Who does not know the class of a rejection still knows that the domain has decided."""
    problem = AggregateNotFound(aggregate="A", id="1").to_problem()
    assert problem["decided"]
    unknown = from_problem(problem | {"code": "of-another-service"}, source="accounts")
    assert type(unknown) is RemoteRejection
    assert (unknown.source, unknown.remote_code) == ("accounts", "of-another-service")
    assert unknown.decided
    waiting = from_problem(NoInstance(service="s").to_problem() | {"code": "unknown-too"})
    assert type(waiting) is RemoteError
    assert not waiting.decided
