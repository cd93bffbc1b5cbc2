"""The consistency token."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import MalformedMessage
from headwater.messages import ConsistencyToken
from headwater.messages.token import SourceState

STATES = st.builds(
    SourceState,
    epoch=st.sampled_from(["e1", "e2", ""]),
    shards=st.dictionaries(st.integers(0, 3), st.integers(0, 2**62), max_size=3),
)
TOKENS = st.builds(
    ConsistencyToken, st.dictionaries(st.sampled_from(["accounts", "é", ""]), STATES, max_size=3)
)


@given(TOKENS)
def test_round_trip(token: ConsistencyToken) -> None:
    """A token comes back from its text, which is safe in a header."""
    text = token.encode()
    assert ConsistencyToken.decode(text) == token
    assert text.isascii()
    assert text.replace("-", "").replace("_", "").isalnum()


@given(st.text(), st.text(), st.integers(0, 2**62), st.integers(0, 2000))
def test_text_of_one_position(source: str, epoch: str, position: int, shard: int) -> None:
    """The text of one position is that of its token."""
    text = ConsistencyToken.text_at(source, epoch, position, shard=shard)
    assert text == ConsistencyToken.at(source, epoch, position, shard=shard).encode()


@given(TOKENS)
def test_encoding_is_canonical(token: ConsistencyToken) -> None:
    """Equal tokens have equal texts, in whatever order they were put together."""
    shuffled = ConsistencyToken(dict(reversed(token.sources.items())))
    assert shuffled.encode() == token.encode()


@given(TOKENS, TOKENS)
def test_merge_is_as_far_as_both(left: ConsistencyToken, right: ConsistencyToken) -> None:
    """Of two tokens of one epoch, the merged is at the further position of each shard."""
    merged = left.merge(right).sources
    assert merged.keys() == left.sources.keys() | right.sources.keys()
    for name, state in merged.items():
        mine, other = left.sources.get(name), right.sources.get(name)
        if other is None:
            assert state == mine
        elif mine is None or mine.epoch != other.epoch:
            assert state == other
        else:
            for shard in mine.shards.keys() | other.shards.keys():
                furthest = max(mine.shards.get(shard, 0), other.shards.get(shard, 0))
                assert state.shards[shard] == furthest


@given(TOKENS)
def test_merge_with_itself(token: ConsistencyToken) -> None:
    """A token merged with itself is the same token."""
    assert token.merge(token) == token


@given(TOKENS, TOKENS)
def test_merge_leaves_both_alone(left: ConsistencyToken, right: ConsistencyToken) -> None:
    """Merging changes neither token."""
    before = left.encode(), right.encode()
    left.merge(right)
    assert (left.encode(), right.encode()) == before


def test_at() -> None:
    """A token of an unsharded store names one position in shard 0."""
    token = ConsistencyToken.at("accounts", "e1", 42)
    assert token.sources == {"accounts": SourceState("e1", {0: 42})}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "truncated"),
        ("!!!", ""),
        ("é", ""),
        ("bm9uc2Vuc2U", ""),
        ("e30", "array"),
        ("WzIse31d", "unknown version 2"),
        ("A", ""),
    ],
)
def test_malformed_text(text: str, reason: str) -> None:
    """A text that is no token is refused, naming what was wrong."""
    with pytest.raises(MalformedMessage, match=f"(?s)consistency token is malformed.*{reason}"):
        ConsistencyToken.decode(text)


@given(st.text())
def test_any_text_is_a_token_or_refused(text: str) -> None:
    """No text raises anything but MalformedMessage."""
    with contextlib.suppress(MalformedMessage):
        ConsistencyToken.decode(text)
