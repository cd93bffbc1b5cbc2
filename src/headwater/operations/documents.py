"""Checking what people write: unknown keys, wrong types, and on which line."""

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from headwater.errors import ConfigurationError

T = TypeVar("T", bound=msgspec.Struct)

_HEADER = re.compile(r"^\s*\[\[?\s*([^\]]+?)\s*\]\]?")
_KEY = re.compile(
    r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*="""
)


def nearest(name: str, known: Collection[str]) -> str:
    """Return a hint that names the nearest known name, else all of them."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if found:
        return f"did you mean {found[0]!r}?"
    return f"known are {', '.join(sorted(known))}" if known else "nothing is known here"


def as_path(kind: type[Any], value: Any) -> Any:
    """Decode paths, for msgspec.

    Raises:
        NotImplementedError: it is something else.
        ValueError: the path is no text.
    """
    if kind is not Path:
        msg = f"values of type {kind.__name__} cannot be given here"
        raise NotImplementedError(msg)
    if isinstance(value, str | Path):
        return Path(value)
    msg = f"Expected `str`, got `{type(value).__name__}`"
    raise ValueError(msg)


class Document:
    """A TOML file, with what is needed to say where something in it is wrong."""

    def __init__(self, path: Path) -> None:
        """Read a file.

        Raises:
            ConfigurationError: it cannot be read, or is not TOML (with the line).
        """
        import tomllib

        self.path = path
        try:
            self._text = path.read_text(encoding="utf-8")
            self.values: dict[str, Any] = tomllib.loads(self._text)
        except FileNotFoundError as error:
            raise ConfigurationError(
                subject=str(path),
                reason="does not exist: go to the folder of your system, or name the file with "
                "--file; `headwater new NAME` makes a new system",
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise ConfigurationError(
                subject=str(path), reason=f"cannot be read: {reason}"
            ) from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(subject=str(path), reason=f"is not TOML: {error}") from error

    def error(self, keys: tuple[str, ...], reason: str) -> ConfigurationError:
        """Return an error about the key at a path of keys."""
        line = self._line(keys)
        return ConfigurationError(
            subject=f"{self.path}:{line}" if line else str(self.path), reason=reason
        )

    def table(self, keys: tuple[str, ...]) -> dict[str, Any]:
        """Return a table; empty when it is not there.

        Raises:
            ConfigurationError: it is not a table.
        """
        found: Any = self.values
        for depth, key in enumerate(keys):
            found = found.get(key, {})
            if not isinstance(found, dict):
                raise self.error(
                    keys[: depth + 1], f"{_dotted(keys[: depth + 1])} must be a table, is {found!r}"
                )
        return dict(found)

    def check_keys(self, keys: tuple[str, ...], known: Collection[str]) -> None:
        """Check that a table has only known keys.

        Raises:
            ConfigurationError: one is unknown; names the nearest known one.
        """
        for key in self.table(keys):
            if key not in known:
                where = f" in [{_dotted(keys)}]" if keys else ""
                raise self.error((*keys, key), f"unknown key {key!r}{where}: {nearest(key, known)}")

    def section(self, keys: tuple[str, ...], kind: type[T], **given: Any) -> T:
        """Return a table as a struct, with some fields ``given`` by the program.

        Raises:
            ConfigurationError: a key is unknown, a needed one is missing, or a type is wrong.
        """
        self.check_keys(keys, [name for name in kind.__struct_fields__ if name not in given])
        values = {**self.table(keys), **given}
        try:
            return msgspec.convert(values, kind, dec_hook=as_path)
        except msgspec.ValidationError as error:
            raise self.error(*_explained(keys, str(error))) from error

    def _line(self, keys: tuple[str, ...]) -> int:
        """Return the line of a key, or of the nearest table around it; 0 when not found."""
        best = best_depth = 0
        table: tuple[str, ...] = ()
        for number, line in enumerate(self._text.splitlines(), start=1):
            here = table
            if header := _HEADER.match(line):
                here = table = _parts(header[1])
            elif found := _KEY.match(line):
                here = (*table, *_parts(found[1]))
            else:
                continue
            if here == keys[: len(here)] and len(here) > best_depth:
                best, best_depth = number, len(here)
        return best


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _dotted(keys: tuple[str, ...]) -> str:
    return ".".join(keys)


def _explained(keys: tuple[str, ...], message: str) -> tuple[tuple[str, ...], str]:
    """Return the path and the reason of a message such as ``Expected `int` - at `$.port```."""
    reason, _, place = message.partition(" - at `$")
    inner = tuple(re.findall(r"\.(\w+)", place))
    path = (*keys, *inner)
    return path, f"{_dotted(path)}: {reason[0].lower()}{reason[1:]}"


def unknown_fields(values: Mapping[str, Any], known: Collection[str], *, subject: str) -> None:
    """Check names given on the command line or in the environment.

    Raises:
        ConfigurationError: one is unknown; names the nearest known one.
    """
    for name in values:
        if name not in known:
            raise ConfigurationError(
                subject=subject, reason=f"unknown setting {name!r}: {nearest(name, known)}"
            )
