"""Settings as flags and the environment give them."""

from collections.abc import Mapping, Sequence
from typing import Any

from headwater.errors import ConfigurationError
from headwater.operations.documents import unknown_fields

_PREFIX = "HEADWATER_"


def pairs(texts: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` texts as a dictionary.

    Raises:
        ConfigurationError: one has no ``=``.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise ConfigurationError(subject=f"--set {text}", reason="expected key=value")
        found[key.strip().replace("-", "_")] = value
    return found


def given_settings(
    known: Sequence[str],
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    lists: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the settings that flags and environment give; flags come first.

    Args:
        known: the names of all settings.
        flags: values by name.
        environment: variables; those called ``HEADWATER_<NAME>`` after a setting count.
        lists: settings that are lists; their texts are split at commas.

    Raises:
        ConfigurationError: a flag is unknown; names the nearest known one.
    """
    unknown_fields(flags, known, subject="command line")
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(_PREFIX):
            continue
        name = variable.removeprefix(_PREFIX).lower()
        if name in known:  # others may be meant for somebody else, or made by an orchestrator
            values[name] = text
    values |= flags
    for name in lists:
        if isinstance(values.get(name), str):
            values[name] = [part.strip() for part in values[name].split(",") if part.strip()]
    return values
