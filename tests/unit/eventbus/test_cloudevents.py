"""Events cross the bus as CloudEvents 1.0 JSON."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import MalformedMessage
from headwater.eventbus import BusEvent
from headwater.eventbus.cloudevents import decode, decode_binary, encode

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EVENT = BusEvent(
    source="accounts",
    epoch="e1",
    position=42,
    stream="Account/7",
    version=3,
    type="MoneyWithdrawn",
    type_version=2,
    time=1_700_000_000_123_456,
    tags=("account:7",),
    data=b'{"amount":5}',
    metadata=b'{"id":"0190","traceparent":"%s"}' % TRACE.encode(),
    confirmed=42,
)
FOREIGN = {"specversion": "1.0", "id": "A-1", "source": "/weather", "type": "com.example.rain"}


def test_the_document_is_as_documented() -> None:
    """Every attribute has the name and form that CloudEvents and this package document."""
    assert json.loads(encode(EVENT)) == {
        "specversion": "1.0",
        "id": "e1/42",
        "source": "accounts",
        "type": "MoneyWithdrawn",
        "time": "2023-11-14T22:13:20.123456Z",
        "subject": "Account/7",
        "datacontenttype": "application/json",
        "sequence": "00000000000000000042",
        "partitionkey": "Account/7",
        "traceparent": TRACE,
        "epoch": "e1",
        "version": 3,
        "typeversion": 2,
        "tags": '["account:7"]',
        "metadata": EVENT.metadata.decode(),
        "data": {"amount": 5},
    }


@pytest.mark.parametrize("confirmed", [0, 41, 42, 2**63 - 1])
def test_what_is_confirmed_comes_across(confirmed: int) -> None:
    """The position up to which the source is there is told unless it is the event's own."""
    document = encode(msgspec.structs.replace(EVENT, confirmed=confirmed))
    assert json.loads(document).get("confirmed", "42") == str(confirmed)
    assert decode(document).confirmed == confirmed


def test_strangers_confirm_nothing() -> None:
    """Events of other programs say nothing of what else is there."""
    assert decode(json.dumps(FOREIGN)).confirmed == 0
    assert decode(json.dumps(FOREIGN | {"confirmed": "7"})).confirmed == 0


def test_attribute_names_are_allowed() -> None:
    """Attribute names are lower-case letters and digits, at most 20, as CloudEvents demands."""
    for name in json.loads(encode(EVENT)):
        assert name.isascii()
        assert name.isalnum()
        assert name == name.lower()
        assert len(name) <= 20


def test_without_a_trace_there_is_no_traceparent() -> None:
    """The extension is absent when the metadata has no trace."""
    event = msgspec.structs.replace(EVENT, metadata=b'{"id":"0190"}')
    assert "traceparent" not in json.loads(encode(event))


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=5,
)


@given(
    st.builds(
        BusEvent,
        source=texts,
        epoch=texts,
        position=st.integers(1, 2**63 - 1),
        stream=texts,
        version=st.integers(0, 2**40),
        type=texts,
        type_version=st.integers(1, 1000),
        time=st.integers(-(10**15), 4 * 10**15),
        tags=st.lists(texts).map(tuple),
        data=json_values.map(msgspec.json.encode),
        metadata=st.dictionaries(texts, json_values).map(msgspec.json.encode),
    )
)
def test_an_event_survives_the_wire(event: BusEvent) -> None:
    """Whatever is encoded comes out the same."""
    if "traceparent" in json.loads(event.metadata):
        return  # its value may be of any type here; only a text is a trace
    assert decode(encode(event)) == event


def test_a_foreign_event_needs_only_what_cloudevents_requires() -> None:
    """An event of another program gets its place on the bus as its position."""
    event = decode(json.dumps(FOREIGN), place=17)
    assert event == BusEvent(
        source="/weather",
        epoch="",
        position=17,
        stream="A-1",
        version=0,
        type="com.example.rain",
        type_version=1,
        time=0,
        tags=(),
        data=b"null",
        metadata=b'{"id":"A-1"}',
        id="A-1",
    )


def test_a_foreign_event_keeps_its_parts() -> None:
    """Time, subject, trace and content of another program's event are taken over; data is raw."""
    document = FOREIGN | {
        "time": "2023-11-14T23:13:20.1234564+01:00",
        "subject": "Köln",
        "traceparent": TRACE,
        "sequence": "abc",
        "datacontenttype": "text/xml",
        "data": "<rain/>",
        "theirextension": True,
    }
    event = decode(json.dumps(document), place=3)
    assert (event.position, event.time, event.stream) == (3, 1_700_000_000_123_456, "Köln")
    assert event.data == b'"<rain/>"'
    assert json.loads(event.metadata) == {"id": "A-1", "traceparent": TRACE}


def test_binary_content_stays_base64() -> None:
    """Binary content of another program is passed on as JSON text in base64."""
    assert decode(json.dumps(FOREIGN | {"data_base64": "AAE="})).data == b'"AAE="'


OURS = json.loads(encode(EVENT))


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ("", "truncated"),
        ("{", "truncated"),
        ("[]", "array"),
        ({"id": "1"}, "source"),
        ({**FOREIGN, "specversion": "0.3"}, "0.3"),
        ({**FOREIGN, "id": ""}, r"\$\.id"),
        ({**FOREIGN, "source": ""}, r"\$\.source"),
        ({**FOREIGN, "type": 1}, r"\$\.type"),
        ({**FOREIGN, "time": "yesterday"}, r"\$\.time"),
        ({**FOREIGN, "time": "2023-11-14T22:13:20"}, r"\$\.time"),
        ({**OURS, "sequence": ""}, "sequence"),
        ({**OURS, "sequence": "0"}, "sequence"),
        ({**OURS, "sequence": "-1"}, "sequence"),
        ({**OURS, "sequence": "9" * 20}, "sequence"),
        ({**OURS, "sequence": "٣"}, "sequence"),
        ({**OURS, "version": -1}, r"\$\.version"),
        ({**OURS, "tags": ["a"]}, r"\$\.tags"),
        ({**OURS, "tags": "[1]"}, "Expected `str`"),
        ({**OURS, "metadata": "[]"}, "Expected `object`"),
        ({**OURS, "metadata": "{"}, "truncated"),
    ],
)
def test_malformed_documents_are_refused(document: object, named: str) -> None:
    """What is not a CloudEvents document is refused, saying which part is wrong."""
    text = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(MalformedMessage, match=f"CloudEvents document.*{named}"):
        decode(text)


@pytest.mark.parametrize("metadata", [b'{"traceparent"', b'{"traceparent":1}', b"\xff"])
def test_broken_metadata_is_refused(metadata: bytes) -> None:
    """An event whose metadata is not a JSON object is not published."""
    with pytest.raises(MalformedMessage, match=r"metadata of 'MoneyWithdrawn' at accounts/42"):
        encode(msgspec.structs.replace(EVENT, metadata=metadata))


def test_attributes_beside_the_data() -> None:
    """An event whose attributes were taken out of its document is read as the same."""
    document = json.loads(encode(EVENT))
    data = json.dumps(document.pop("data")).encode()
    content_type = document.pop("datacontenttype")
    attributes = {name: str(value) for name, value in document.items()}
    found = decode_binary(attributes, data, content_type=content_type)
    assert msgspec.structs.replace(found, data=EVENT.data) == EVENT
    assert json.loads(found.data) == json.loads(EVENT.data)
