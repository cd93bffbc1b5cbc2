"""How long text may be that a store keeps in an index: the same for every store.

An index of PostgreSQL has entries of at most 2,704 bytes, and one of views holds two texts.
"""

from collections.abc import Iterable

from headwater.errors import InvalidInput

BYTES_MAX = 1000
"""In UTF-8; U+0000 and U+0001 count twice, as one store keeps them as two characters."""

SURELY = BYTES_MAX // 4
"""So many characters fit, whatever they are."""


def bytes_of(text: str) -> int:
    """Return how long a text is in an index."""
    return len(text.encode(errors="surrogatepass")) + text.count("\0") + text.count("\1")


def is_too_long(text: str, *, bytes_max: int = BYTES_MAX) -> bool:
    """Whether a text does not fit into an index."""
    return len(text) > bytes_max // 4 and bytes_of(text) > bytes_max


def check_length(texts: Iterable[str], *, what: str) -> None:
    """Refuse text that does not fit into an index.

    Raises:
        InvalidInput: naming the text, how long it is and how long it may be.
    """
    for text in texts:
        if is_too_long(text):
            raise InvalidInput(
                reason=f"{what} {text[:50]!r}... has {bytes_of(text)} bytes, at most {BYTES_MAX} "
                "can be found again: shorten it, or put what is long where nothing looks for it"
            )


__all__ = ["BYTES_MAX", "SURELY", "bytes_of", "check_length", "is_too_long"]
