"""Words of texts: cut and folded here, so that every store finds the same documents by them.

A word is a run of letters and digits. Case does not count, nor do accents: ``Müller`` is found by
``muller``, and ``straße`` by ``STRASSE``. What is written without spaces, as Chinese is, is one
word; a prefix finds it.
"""

import re
import unicodedata
from collections.abc import Iterable

import msgspec

from headwater.errors import InvalidInput

LENGTH_MAX = 64
"""Of a word so many characters count."""
WORDS_MAX = 200_000
"""So many characters the different words of a document have at most."""
ASKED_MAX = 50
"""So many words can be asked for at a time."""

_WORD = re.compile(r"([^ *]+)(\*?)")
_NO_WORD = re.compile(r"[^a-z0-9*]+")


class FullText:
    """Marks a text that is found by its words: ``body: Annotated[str, FullText]``."""


class Word(msgspec.Struct, frozen=True, order=True):
    """A word that is asked for; a prefix if all words that begin with it will do."""

    text: str
    prefix: bool = False

    def meets(self, words: Iterable[str]) -> bool:
        """Whether it is among some words."""
        if self.prefix:
            return any(word.startswith(self.text) for word in words)
        return self.text in words


def words_of(texts: Iterable[str | None]) -> str:
    """Return the different words of some texts, in order, with a space between each two."""
    found = {m[1][:LENGTH_MAX] for text in texts if text for m in _WORD.finditer(_folded(text))}
    return " ".join(sorted(found))


def asked(matching: str, *, subject: str) -> tuple[Word, ...]:
    """Return the words that a query asks for.

    Raises:
        InvalidInput: it has none, or too many.
    """
    found = {Word(m[1][:LENGTH_MAX], bool(m[2])) for m in _WORD.finditer(_folded(matching))}
    if not 1 <= len(found) <= ASKED_MAX:
        raise InvalidInput(
            reason=f"matching={matching[:80]!r} has {len(found)} words for {subject}: give 1 to "
            f"{ASKED_MAX}, a * behind one of which only the beginning is given"
        )
    return tuple(sorted(found))


def _folded(text: str) -> str:
    """Return words as they are compared; all that is of none is a space, but for asterisks."""
    if text.isascii():
        return _NO_WORD.sub(" ", text.lower())
    apart = unicodedata.normalize("NFKD", text).casefold()
    apart = unicodedata.normalize("NFKD", apart)
    return "".join(c if _is_part(c) else " " for c in apart if not unicodedata.combining(c))


def _is_part(character: str) -> bool:
    return (
        character.isalnum()
        or character == "*"
        or unicodedata.category(character).startswith("M")  # such as vowels in Indian scripts
    )
