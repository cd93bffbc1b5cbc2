"""What an idempotency key may be."""

import pytest

from headwater.errors import MalformedMessage
from headwater.messages.headers import IDEMPOTENCY_KEY, idempotency_key
from headwater.messages.idempotency import check_key, key_for

GOOD = ["k", "a b", "ü", "\u3042", "\U0001f600", "voil\xc3\xa0", "x" * 500, 'a,b;c="d"', "%00"]
BAD = ["\t", "a\nb", "a\0", "\x7f", " k", "k ", "x" * 501, "\ud800", "\u3000", "  "]


@pytest.mark.parametrize("key", GOOD)
def test_a_key(key: str) -> None:
    """Up to 500 characters that are no control characters are a key, and stand for themselves."""
    check_key(key)
    assert key_for(key) == key
    assert idempotency_key({IDEMPOTENCY_KEY: f" {key}\t"}) == key


@pytest.mark.parametrize("text", ["", *BAD])
def test_no_key(text: str) -> None:
    """Anything else is refused with what it is; a digest that is a key stands for it."""
    with pytest.raises(MalformedMessage, match=r"idempotency key is malformed: .*key|must have"):
        check_key(text)
    check_key(key_for(text))


@pytest.mark.parametrize("text", ["", " ", "\t \t", "\xa0", "a\x01b", "x" * 501])
def test_no_key_in_a_header(text: str) -> None:
    """A header that is there must hold a key; the refusal names the header."""
    with pytest.raises(MalformedMessage, match="header idempotency-key is malformed"):
        idempotency_key({IDEMPOTENCY_KEY: text})
    assert idempotency_key({}) == ""


def test_stand_ins_differ() -> None:
    """What stands for different texts differs, and is the same each time."""
    texts = [*GOOD, *BAD, "ü" * 400, "x" * 502]
    assert len({key_for(text) for text in texts}) == len(texts)
    assert [key_for(text) for text in texts] == [key_for(text) for text in texts]
    assert all(len(key_for(text).encode()) <= 500 for text in texts)
