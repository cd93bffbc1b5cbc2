"""What an idempotency key may be: the same wherever it comes from and wherever it goes."""

import re
from hashlib import blake2b

from headwater.errors import MalformedMessage

LENGTH_MAX = 500
"""Characters; as UTF-8 they fit into an index of any database."""

_KEY = re.compile(rf"(?! )[^\x00-\x1f\x7f\ud800-\udfff]{{1,{LENGTH_MAX}}}(?<! )")


def is_key(text: str) -> bool:
    """Whether a text can be a key: 1 to 500 characters, no control characters, not blank.

    Spaces at its ends would be lost on the way through HTTP (RFC 9110, section 5.5).
    """
    return _KEY.fullmatch(text) is not None and not text.isspace()


def check_key(text: str, *, name: str = "idempotency key") -> None:
    """Check that a text can be a key.

    Raises:
        MalformedMessage: it cannot; ``name`` says where it stands.
    """
    if is_key(text):
        return
    if not text.strip():
        reason = "it is blank: give each command a key of its own, or none"
    else:
        reason = (
            f"{text[:50]!r} ({len(text)} characters) must have 1 to {LENGTH_MAX} characters, no "
            "control characters, and no spaces at its ends"
        )
    raise MalformedMessage(name=name, reason=reason)


def key_for(text: str) -> str:
    """Return the key that stands for any text: the text itself, if it can be one, else its digest.

    The digest is BLAKE2b, 256 bits.
    """
    if is_key(text) and len(text.encode()) <= LENGTH_MAX:
        return text
    return blake2b(text.encode(errors="surrogatepass"), digest_size=32).hexdigest()


__all__ = ["LENGTH_MAX", "check_key", "is_key", "key_for"]
