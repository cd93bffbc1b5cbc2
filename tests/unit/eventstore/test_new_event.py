"""Events in the form in which they are appended."""

from typing import Annotated

import msgspec

from headwater.eventstore import NewEvent
from headwater.messages import Event, Tag, new_metadata, wire
from headwater.messages.codec import decode_metadata


def test_stored_form() -> None:
    """The stored form has the wire name, the version, the tags, plain JSON and the metadata."""

    @wire("bank.Opened", version=2)
    class Opened(Event):
        id: str
        email: Annotated[str, Tag("email")]

    metadata = new_metadata()
    new = NewEvent.of(Opened("7", "a@b.example"), metadata)
    assert (new.type, new.type_version, new.tags) == ("bank.Opened", 2, ("email:a@b.example",))
    assert msgspec.json.decode(new.data) == {"id": "7", "email": "a@b.example"}
    assert decode_metadata(new.metadata) == metadata
