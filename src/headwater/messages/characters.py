"""What every store refuses as text: characters that are none (lone surrogates)."""

from collections.abc import Iterable

from headwater.errors import InvalidInput


def check_text(texts: Iterable[str]) -> None:
    """Refuse text that has no bytes in UTF-8, in which databases and networks have it.

    Raises:
        InvalidInput: naming the text.
    """
    for text in texts:
        try:
            str(text).encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(reason=f"{text[:50]!r} is no text: {error}: correct it") from error
