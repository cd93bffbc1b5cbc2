"""What every place of settings files checks before it stores any."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

from headwater.config.files import SUFFIXES, parse
from headwater.errors import ConfigurationError

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def is_settings_file(name: str) -> bool:
    """Whether a file is one by its name: with a suffix of ours, and not hidden."""
    return PurePosixPath(name).suffix in SUFFIXES and not name.startswith(".")


def check_files(files: Mapping[str, bytes]) -> None:
    """Check names and contents of all files that are to be stored.

    Raises:
        ConfigurationError: the first file that is bad, with line and reason.
    """
    for name in files:
        check_name(name)
    for name, others in same_names(files).items():
        raise ConfigurationError(subject=name, reason=same_name_reason(others))
    for name in sorted(files):
        parse(files[name], name=name)


def check_name(name: str) -> None:
    """Check that a name is one of a settings file, and cannot leave its directory.

    Raises:
        ConfigurationError: it is not.
    """
    plain = all(map(_PART.fullmatch, name.split("/")))
    if not plain or not is_settings_file(PurePosixPath(name).name):
        known = ", ".join(SUFFIXES)
        raise ConfigurationError(
            subject=f"settings file {name!r}",
            reason=f"is no name: use letters, digits and . _ - in it, and end it with {known}",
        )


def same_names(names: Collection[str]) -> dict[str, list[str]]:
    """Return the files that differ from others in their suffix only, each with those others."""
    stems: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        stems[str(PurePosixPath(name).with_suffix(""))].append(name)
    groups = (group for group in stems.values() if len(group) > 1)
    return {name: [n for n in group if n != name] for group in groups for name in group}


def same_name_reason(others: Collection[str]) -> str:
    """Return why a file that differs from others in its suffix only is refused."""
    return f"{', '.join(others)} has the same name: keep one of them"


__all__ = ["check_files", "check_name", "is_settings_file", "same_name_reason", "same_names"]
