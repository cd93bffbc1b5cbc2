"""Which file a URL names."""

from pathlib import Path

from headwater.errors import ConfigurationError


def file_of(url: str) -> Path:
    """Return the file that ``sqlite:<path>`` names.

    Raises:
        ConfigurationError: it names none.
    """
    path = url.partition(":")[2]
    if not path:
        raise ConfigurationError(
            subject=f"database URL {url!r}", reason="names no file: expected 'sqlite:<path>'"
        )
    return Path(path)
