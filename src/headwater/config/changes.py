"""What differs between two sets of settings files. Pure."""

from collections.abc import Mapping
from typing import Any

from headwater.config.api import SettingsChange

Contents = Mapping[str, Any]


def difference(before: Contents, after: Contents, **fields: Any) -> SettingsChange:
    """Return the change from one set of files to another, with these further fields."""
    return SettingsChange(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(n for n in before.keys() & after.keys() if before[n] != after[n])),
        removed=tuple(sorted(before.keys() - after.keys())),
        **{"number": 0, "time": 0, **fields},
    )


def touched(change: SettingsChange) -> tuple[str, ...]:
    """Return the names of all files that a change is about."""
    return (*change.added, *change.changed, *change.removed)


__all__ = ["difference", "touched"]
