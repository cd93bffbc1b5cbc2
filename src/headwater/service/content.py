"""What the body of a command may be: JSON in UTF-8, and said to be."""

from collections.abc import Mapping
from email.message import Message
from functools import lru_cache

from headwater.errors import UnsupportedMediaType

CONTENT_TYPE = "content-type"
ORIGIN = "origin"
_EXPECTED = "application/json"


def check_content(headers: Mapping[str, str]) -> None:
    """Check that a body is JSON as far as it is declared.

    A page can make a browser send plain text and forms to any other place, also to this machine,
    without being asked; JSON it cannot. So what is declared as something else is refused, and what
    comes from a page of another place must be declared, even when it is empty.
    Source: Fetch standard, sections "CORS-safelisted request-header" and "Origin header".

    Raises:
        UnsupportedMediaType: it is declared as something else, or as nothing.
    """
    declared = headers.get(CONTENT_TYPE, "")
    if not (declared or _is_foreign(headers)):
        return
    if not is_json(declared):
        raise UnsupportedMediaType(expected=_EXPECTED, actual=declared[:100])


def _is_foreign(headers: Mapping[str, str]) -> bool:
    origin = headers.get(ORIGIN)
    return origin is not None and origin.partition("://")[2] != headers.get("host", "")


@lru_cache(64)
def is_json(declared: str) -> bool:
    """Whether a ``Content-Type`` says JSON, in UTF-8 (RFC 8259, section 8.1)."""
    message = Message()
    message[CONTENT_TYPE] = declared
    kind = message.get_content_type()
    if kind != _EXPECTED and not (kind.startswith("application/") and kind.endswith("+json")):
        return False
    return message.get_content_charset("utf-8") in {"utf-8", "utf8", "us-ascii"}
