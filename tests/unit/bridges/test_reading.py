"""What a message of AMQP is read as."""

import json
from datetime import UTC, datetime

import pytest
from aio_pika import Message

from headwater import Event
from headwater.bridges import AmqpQueue
from headwater.bridges.amqp.reading import read
from headwater.bridges.inbox import message_key
from headwater.errors import DeclarationError, MalformedMessage


class Packed(Event):
    order_id: str


QUEUE = AmqpQueue("q", "dead", plain={"packed": Packed})
DOCUMENT = {"specversion": "1.0", "id": "1", "source": "wms", "type": "Packed", "data": {"a": 1}}


def structured(document, kind="application/cloudevents+json"):
    return Message(json.dumps(document).encode(), content_type=kind)


def binary(body=b'{"a": 1}', kind="application/json", **attributes):
    given = {"specversion": "1.0", "id": "1", "source": "wms", "type": "Packed"} | attributes
    return Message(
        body, headers={f"cloudEvents:{n}": v for n, v in given.items()}, content_type=kind
    )


def plain(body=b'{"order_id":"o1"}', **properties):
    return Message(body, **({"type": "packed", "message_id": "m1"} | properties))


def test_the_modes_say_the_same():
    """An event is the same event, and has the same identity, in both modes."""
    one, other = read(structured(DOCUMENT), QUEUE, 1), read(binary(), QUEUE, 1)
    assert one == other
    assert one.key == message_key("q", "wms", "1")
    assert json.loads(one.event.data) == {"a": 1}


def test_headers_of_other_types():
    """Headers may be bytes, numbers and times, as AMQP has them."""
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    event = read(binary(id=b"7", time=time, subject=12), QUEUE, 1).event
    assert event.time == int(time.timestamp()) * 10**6
    assert event.stream == "12"


def test_plain_json():
    """The event is of the declared class; sender and time come from the properties."""
    time = datetime(2026, 1, 2, tzinfo=UTC)
    found = read(plain(app_id="erp", timestamp=time), QUEUE, 3)
    assert found.key == message_key("q", "erp", "m1")
    assert found.event.type == "Packed"
    assert found.event.source == "erp"
    assert found.event.time == int(time.timestamp()) * 10**6
    assert read(plain(), QUEUE, 3).event.source == "q"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (structured([DOCUMENT], "application/cloudevents-batch+json"), "cloudevents-batch"),
        (structured({**DOCUMENT, "specversion": "0.3"}), "specversion"),
        (structured({"specversion": "1.0"}), "id"),
        (Message(b"\xff", content_type="application/cloudevents+json"), "malformed"),
        (binary(id=b"\xff"), "is no text"),
        (binary(time=[1]), "is a list"),
        (binary(id=""), "id"),
        (Message(b"{}", headers={"cloudEvents:specversion": "1.0"}), "id"),
        (plain(message_id=""), "no message_id"),
        (plain(b"{"), "is no JSON"),
        (plain(b'"\xff"'), "is no JSON"),
        (plain(type="sold"), "'sold' is not declared"),
        (plain(type=None), "'' is not declared"),
    ],
)
def test_what_cannot_be_read(message, reason):
    """What is no event is malformed, and it is said why."""
    with pytest.raises(MalformedMessage, match=reason):
        read(message, QUEUE, 1)


def test_keys_of_messages_are_told_apart():
    """No source and id together are taken for others."""
    assert message_key("q", "a", "bc") != message_key("q", "ab", "c")
    assert message_key("q", "a", "b") != message_key("r", "a", "b")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"queue": ""}, "queue must be a name"),
        ({"dead_letters": ""}, "dead_letters must be a name"),
        ({"queue": "q" * 256}, "1 to 255 bytes"),
        ({"called_by": "name"}, "called_by"),
        ({"unhandled": "drop"}, "unhandled"),
        ({"prefetch": 0}, "prefetch must be 1"),
        ({"known_s": 0.0}, "known_s must be above 0"),
    ],
)
def test_wrong_declarations(options, reason):
    """What a queue is declared to be is checked."""
    with pytest.raises(DeclarationError, match=reason):
        AmqpQueue(**({"queue": "q", "dead_letters": "dead"} | options))
