"""The AsyncAPI document: valid by the official schema, and telling nobody's password."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from headwater.errors import ConfigurationError
from headwater.messages import Command, Event, wire
from headwater.modelling import Aggregate, EventHandlers, command_handler, event_handler
from headwater.operations.asyncapi import asyncapi_document
from headwater.service import Service

SCHEMA = json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_text())


class Brew(Command):
    pot: str


@wire("asyncapi.Brewed", version=1)
class Brewed(Event):
    """Tea is ready."""

    pot: str


@wire("asyncapi.Rained", source="weather")
class Rained(Event):
    mm: int


class Pot(Aggregate):
    @command_handler(creates=True)
    def brew(self, command: Brew) -> Brewed:
        return Brewed(command.pot)


class Listening(EventHandlers):
    source = "bus"
    start = "beginning"

    @event_handler
    async def brewed(self, event: Brewed) -> None: ...

    @event_handler
    async def rained(self, event: Rained) -> None: ...


SERVICES = (Service("kitchen", aggregates=[Pot]), Service("guests", handlers=[Listening]))


def document(bus: str = "") -> dict[str, Any]:
    made = asyncapi_document(SERVICES, title="tea", bus=bus)
    made = json.loads(json.dumps(made))
    jsonschema.validate(made, SCHEMA, cls=jsonschema.Draft7Validator)
    return made


def test_what_is_said_and_followed() -> None:
    """Services send their own events, and receive those that they follow, each of its source."""
    made = document()
    assert made["channels"]["events"]["messages"].keys() == {
        "kitchen.asyncapi.Brewed",
        "weather.asyncapi.Rained",
    }
    assert {name: one["action"] for name, one in made["operations"].items()} == {
        "kitchen.publishes": "send",
        "guests.follows": "receive",
    }
    message = made["components"]["messages"]["kitchen.asyncapi.Brewed"]
    assert message["summary"] == "Tea is ready."
    assert made["components"]["schemas"]["Brewed"]["required"] == ["pot"]


@pytest.mark.parametrize(
    ("bus", "address", "protocol"),
    [
        ("kafka://h1,h2:9093/bank", "bank.events", "kafka"),
        ("kafka://me:s3cret@h1,h2:9093/bank?kafka.client.id=s3cret", "bank.events", "kafka-secure"),
        ("rabbitmq-stream://me:s3cret@h1/?name=bank", "bank-{partition}", "rabbitmq-stream"),
        ("sqlite:/tmp/s3cret.db", None, ""),
        ("", None, ""),
    ],
)
def test_servers(bus: str, address: str | None, protocol: str) -> None:
    """The servers of the bus are named, without user, password and options."""
    made = document(bus)
    assert made["channels"]["events"]["address"] == address
    assert {each["protocol"] for each in made.get("servers", {}).values()} == {protocol} - {""}
    assert "s3cret" not in json.dumps(made)


def test_a_bus_without_a_host() -> None:
    """A URL that names no server is refused."""
    with pytest.raises(ConfigurationError, match="names no host"):
        document("kafka:///bank")
