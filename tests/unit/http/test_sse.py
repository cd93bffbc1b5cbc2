"""The event stream format."""

from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from headwater._http.sse import HEARTBEAT, ServerSentEvent, decode_events, encode_event


async def chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def decoded(data: bytes, size: int = 1000) -> list[ServerSentEvent | None]:
    return [event async for event in decode_events(chunks(data, size))]


@given(
    st.lists(st.tuples(st.sampled_from(["snapshot", "change"]), st.text("ab:\n é"))),
    st.integers(1, 9),
)
async def test_round_trip(events: list[tuple[str, str]], size: int) -> None:
    """What is written is read back, wherever the chunks are cut."""
    sent = [ServerSentEvent(n, d.encode(), str(i)) for i, (n, d) in enumerate(events)]
    wire = b"".join(encode_event(e.name, e.data, id=e.id) + HEARTBEAT for e in sent)
    assert [e for e in await decoded(wire, size) if e is not None] == sent


async def test_comments_are_signs_of_life() -> None:
    """A comment yields None."""
    assert await decoded(HEARTBEAT) == [None]


async def test_cut_event_is_dropped() -> None:
    """An event that the end of the stream cuts off is not delivered."""
    assert await decoded(b"data: 1\n\ndata: 2\n") == [ServerSentEvent("message", b"1")]


async def test_carriage_returns() -> None:
    """Lines may end with CR LF."""
    assert await decoded(b"event: a\r\ndata: 1\r\n\r\n") == [ServerSentEvent("a", b"1")]
