"""The last good document in a local file, to start from while the server is away."""

from pathlib import Path

import msgspec
import structlog

from headwater._os.files import write_atomically
from headwater.config.api import ConfigDocument

_log = structlog.get_logger("headwater.config")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ConfigDocument).decode


def save(path: Path, document: ConfigDocument) -> None:
    """Write it atomically, readable by the owner only; a failure is logged and harms nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _encode(document), private=True)
    except OSError as error:
        _log.warning("cannot keep the configuration for later starts", reason=str(error))


def read(path: Path) -> tuple[ConfigDocument | None, str]:
    """Return the document, or None and why there is none."""
    try:
        return _decode(path.read_bytes()), ""
    except FileNotFoundError:
        return None, f"{path} does not exist yet"
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return None, f"{path} cannot be used ({error})"


__all__ = ["read", "save"]
