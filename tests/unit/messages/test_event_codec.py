"""Events to stored bytes and back."""

import datetime as dt
import decimal
import enum
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import DeclarationError, EventUnreadable, MalformedMessage, UnknownMessage
from headwater.eventstore import StoredEvent
from headwater.messages import Event, Metadata, encode_event, upcaster, wire
from headwater.messages.codec import EventCodec, decode_metadata, encode_metadata


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Everything(Event):
    text: str
    number: int
    ratio: float
    flag: bool
    day: dt.date
    at: dt.datetime
    price: decimal.Decimal
    key: uuid.UUID
    colour: Colour
    listed: list[int]
    named: dict[str, str]
    maybe: int | None
    raw: bytes


EVENTS = st.builds(
    Everything,
    text=st.text(),
    number=st.integers(-(2**63), 2**63 - 1),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    day=st.dates(),
    at=st.datetimes(timezones=st.just(dt.UTC)),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    key=st.uuids(),
    colour=st.sampled_from(Colour),
    listed=st.lists(st.integers(-(2**31), 2**31)),
    named=st.dictionaries(st.text(), st.text()),
    maybe=st.none() | st.integers(-5, 5),
    raw=st.binary(),
)


@given(EVENTS)
def test_round_trip(event: Everything) -> None:
    """What is encoded is decoded to the same event, for every type of field."""
    codec = EventCodec([Everything])
    assert codec.decode("Everything", 1, encode_event(event)) == event


@wire("Paid", version=3, aliases=["OldPaid"])
class Paid(Event):
    id: str
    cents: int
    currency: str


@upcaster(Paid, from_version=1)
def _dollars_to_cents(content: dict[str, Any]) -> dict[str, Any]:
    return {"id": content["id"], "cents": content["dollars"] * 100}


@upcaster(Paid, from_version=2)
def _add_currency(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "currency": "USD"}


@pytest.mark.parametrize("name", ["Paid", "OldPaid"])
@pytest.mark.parametrize(
    ("version", "data"),
    [
        (1, b'{"id":"7","dollars":3}'),
        (2, b'{"id":"7","cents":300}'),
        (3, b'{"id":"7","cents":300,"currency":"USD"}'),
    ],
)
def test_older_versions_are_lifted(name: str, version: int, data: bytes) -> None:
    """Content of any older version, under any former name, comes out as the current class."""
    assert EventCodec([Paid]).decode(name, version, data) == Paid("7", 300, "USD")


def test_event_of_a_newer_program() -> None:
    """An event of a later version than the class is refused with the advice to upgrade."""
    with pytest.raises(EventUnreadable, match="at version 4, this program knows 3: upgrade"):
        EventCodec([Paid]).decode("Paid", 4, b"{}")


def test_unknown_name() -> None:
    """A name that no class was given for is an UnknownMessage."""
    codec = EventCodec([Paid])
    assert codec.knows("Paid")
    assert codec.knows("OldPaid")
    assert not codec.knows("Lost")
    with pytest.raises(UnknownMessage, match="'Lost'"):
        codec.decode("Lost", 1, b"{}")


@pytest.mark.parametrize(
    ("version", "data"),
    [
        (3, b"{"),
        (3, b"[]"),
        (3, b'{"id":"7"}'),
        (3, b'{"id":7,"cents":1,"currency":""}'),
        (3, b"\xff"),
        (2, b"nonsense"),
        (2, b"[1]"),
        (2, b'{"id":7,"cents":1}'),
    ],
)
def test_malformed_content(version: int, data: bytes) -> None:
    """Content that does not fit is unreadable, a fault of ours; the error names the event."""
    with pytest.raises(EventUnreadable, match="event 'Paid' cannot be read"):
        EventCodec([Paid]).decode("Paid", version, data)


def test_two_classes_of_one_name() -> None:
    """Two classes of the same wire name, or alias, cannot be told apart and are refused."""

    @wire("OldPaid")
    class Other(Event):
        id: str

    codec = EventCodec([Paid])
    codec.add(Paid)  # the same again is fine
    said = rf"Other: wire name 'OldPaid' belongs to {__name__}\.Paid already: .*@wire"
    with pytest.raises(DeclarationError, match=said):
        codec.add(Other)


def test_a_class_that_can_never_be_read() -> None:
    """A class with a field that no decoder takes is refused when it is made known."""

    class Ambiguous(Event):
        when: str | dt.date

    with pytest.raises(DeclarationError, match="Ambiguous: it could never be read back"):
        EventCodec([Ambiguous])


def test_a_failing_upcaster_is_no_fault_of_the_caller() -> None:
    """Whatever an upcaster raises, the event cannot be read, and the error says which it is."""

    @wire("Lifted", version=2)
    class Lifted(Event):
        id: str

    upcaster(Lifted, from_version=1)(lambda content: {"id": content["absent"]})
    stored = StoredEvent(1, "Thing/7", 4, "Lifted", 1, 0, (), b"{}", b'{"id":"1"}')
    with pytest.raises(EventUnreadable, match=r"at version 4 of stream 'Thing/7'.* KeyError"):
        EventCodec([Lifted]).read(stored)


METADATA = st.builds(
    Metadata,
    id=st.text(min_size=1),
    correlation_id=st.text(),
    causation_id=st.text(),
    time=st.integers(0, 2**60),
    traceparent=st.text(),
    principal=st.text(),
    tenant=st.text(),
)


@given(METADATA)
def test_metadata_round_trip(metadata: Metadata) -> None:
    """Metadata comes back from its stored form."""
    assert decode_metadata(encode_metadata(metadata)) == metadata


def test_metadata_is_compact() -> None:
    """What is not set takes no room in the store."""
    assert encode_metadata(Metadata(id="1")) == b'{"id":"1"}'


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"id":1}', b"\xff"])
def test_malformed_metadata(data: bytes) -> None:
    """Anything else is refused as malformed metadata."""
    with pytest.raises(MalformedMessage, match="metadata is malformed"):
        decode_metadata(data)
