"""SQL kept in ``.sql`` files beside the code that runs it."""

import importlib.resources
import re

_NAME = re.compile(r"^-- name: *(\w+)[^\n]*\n", re.MULTILINE)


def script(package: str, file: str) -> str:
    """Return the text of a file in a package, say ``("headwater.config", "postgres_1.sql")``."""
    return importlib.resources.files(package).joinpath(file).read_text(encoding="utf-8")


def statements(package: str, file: str) -> dict[str, str]:
    """Return the statements of a file by name; each begins after a line ``-- name: <name>``.

    Comments are removed, so that the text can be used as a key in a statement cache cheaply.
    """
    parts = _NAME.split(script(package, file))
    return {
        name: re.sub(r"^\s*--[^\n]*\n?", "", text, flags=re.MULTILINE).strip().rstrip(";")
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def not_there(room: str, actual: int, expected: int) -> str:
    """Return why the tables of a room cannot be read by somebody who may not make them."""
    if not actual:
        return f"there is no {room} in it: correct the URL, or start the service first"
    return (
        f"its {room} has schema {actual}, this version reads {expected}: start the service of this "
        "version first, which brings it up to date"
    )
