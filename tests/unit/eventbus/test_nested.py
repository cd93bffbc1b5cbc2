"""What another program nests without end is not taken for an event."""

import pytest

from headwater.errors import MalformedMessage
from headwater.eventbus import cloudevents


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nested_without_end(opening: str) -> None:
    """A document that is nested deeper than can be read is malformed."""
    document = '{"specversion":"1.0","id":"1","source":"s","type":"t","data":' + opening * 100_000
    with pytest.raises(MalformedMessage):
        cloudevents.decode(document, place=1)
