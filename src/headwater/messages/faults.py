"""What is wrong with a value that is to be stored: found part by part, and said with its place."""

import contextlib
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from headwater.messages.kinds import (
    ANYTHING,
    KEY,
    Kind,
    Part,
    is_collection,
    is_record,
    parts_of,
)

_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode
_SHOWN_MAX = 80
_DEPTH_MAX = 64
_NO_JSON = "which has no form in JSON"
_FINITE = frozenset(
    (str, int, bool, NoneType, bytes, Decimal, UUID, date, datetime, time, timedelta)
)


class Fault(NamedTuple):
    """What is wrong with a value: where, the part that is at fault, and why."""

    path: str
    value: Any
    reason: str

    def at(self, step: str) -> "Fault":
        """Return the fault of the value that has this one as a part."""
        return Fault(step + self.path, self.value, self.reason)

    @property
    def place(self) -> str:
        """The path as it is told, such as ``items[1].sku``; empty for the value itself."""
        return self.path.removeprefix(".").lstrip()


def shown(value: Any) -> str:
    """Return a value for a message, shortened."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # a number with too many digits, or a class of the domain
        text = f"a {type(value).__name__}"
        if isinstance(value, int):
            text = f"a whole number of {value.bit_length()} bits"
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


def changed(given: Any, back: Any, kind: Kind, *, equal: bool) -> Fault | None:
    """Return what of a value comes back as something else, if anything.

    Args:
        given: the value.
        back: what is read back.
        kind: what is declared for it.
        equal: whether parts that call themselves equal are.
    """
    if kind.is_open:
        return endless(given)
    if is_record(back):
        return _record_changed(given, back, kind, equal=equal)
    if isinstance(back, Mapping):
        return _mapping_changed(given, back, kind, equal=equal)
    if is_collection(back):
        return _collection_changed(given, back, kind, equal=equal)
    same = _same(given, back) or _same_though_not_to_python(given, back)
    return None if same else endless(given) or _becomes(given, back)


def endless(value: Any) -> Fault | None:
    """Return a floating-point number that is infinite or none, which JSON turns into null."""
    if type(value) in _FINITE:
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else Fault("", value, _NO_JSON)
    if isinstance(value, Mapping):
        for key, item in value.items():
            if (fault := endless(item)) is not None:
                return fault.at(f"[{key!r}]")
        return None
    for part in parts_of(value, ANYTHING):
        if (fault := endless(part.value)) is not None:
            return fault.at(part.step)
    return None


def unencodable(value: Any, error: Exception, depth: int = 0) -> Fault:
    """Return the innermost part of a value that has no JSON."""
    for part in parts_of(value, ANYTHING) if depth < _DEPTH_MAX else ():
        if part.value is msgspec.UNSET:
            continue  # left out
        try:
            _encode(part.value)
        except Exception as inner:  # noqa: BLE001  # whatever it is, it is what is looked for
            if part.step.startswith(KEY):
                break  # the entry's own
            return unencodable(part.value, inner, depth + 1).at(part.step)
    return Fault("", value, f"{_NO_JSON} ({error})")


def undecodable(value: Any, data: bytes, read: Callable[[bytes], Any], error: Exception) -> Fault:
    """Return the part of a value that its class does not take back, as msgspec names its place."""
    found = re.fullmatch(r"(.*) - at (?:`key` in )?`\$(.*)`", str(error), re.DOTALL)
    why, where = found.groups() if found else (str(error), "")
    path = ""
    with contextlib.suppress(Exception):  # then the place is not told as exactly
        tree = [_decode_any(data)]
        above: Any = tree
        place: Any = 0
        for name, index in re.findall(r"\.([^.\[]+)|\[(\d+|\.{3})\]", where):
            here = above[place]
            step = name or (int(index) if index.isdigit() else _guilty(tree, above, place, read))
            part = _at(step, value, here)
            path, value = path + part.step, part.value
            above, place = here, step
    fault = endless(value) or Fault("", value, f"which could not be read back ({why})")
    return fault.at(path)


def _part_changed(given: Any, back: Any, kind: Kind, *, equal: bool) -> Fault | None:
    if equal and _same(given, back):
        return None
    return changed(given, back, kind, equal=equal)


def _record_changed(given: Any, back: Any, kind: Kind, *, equal: bool) -> Fault | None:
    if type(given) is not type(back):
        return _becomes(given, back)
    for name, stored, of_field in kind.fields(type(back)):
        one, other = getattr(given, name), getattr(back, name)
        fault = _part_changed(one, other, of_field, equal=equal)
        if fault is not None:
            return fault.at(f".{stored}")
    return None


def _mapping_changed(
    given: Any, back: Mapping[Any, Any], kind: Kind, *, equal: bool
) -> Fault | None:
    if not isinstance(given, Mapping) or len(given) != len(back):
        return _becomes(given, back)
    of_key, of_value, named = kind.entries()
    for (key, item), (key_back, item_back) in zip(given.items(), back.items(), strict=True):
        if not (of_key.is_open or _same(key, key_back)):
            return _becomes(key, key_back).at(f"{KEY} {key!r}")
        fault = _part_changed(item, item_back, named.get(key, of_value), equal=equal)
        if fault is not None:
            return fault.at(f"[{key!r}]")
    return None


def _collection_changed(given: Any, back: Any, kind: Kind, *, equal: bool) -> Fault | None:
    if not is_collection(given) or len(given) != len(back):
        return _becomes(given, back)
    if isinstance(back, set | frozenset):
        with contextlib.suppress(TypeError):  # of what has no hash
            if set(given) == back:
                return None
        same = {_encode(item) for item in given} == {_encode(item) for item in back}
        return None if same else _becomes(given, back)
    for place, (item, item_back) in enumerate(zip(given, back, strict=True)):
        fault = _part_changed(item, item_back, kind.item(place), equal=equal)
        if fault is not None:
            return fault.at(f"[{place}]")
    return None


def _same(given: Any, back: Any) -> bool:
    try:
        return bool(back == given)
    except Exception:  # noqa: BLE001  # a class of the domain, or a decimal that signals
        return False


def _same_though_not_to_python(given: Any, back: Any) -> bool:
    """Whether it is the same time of those told twice in autumn, or a decimal that is no number."""
    if isinstance(given, datetime) and isinstance(back, datetime):
        same_time = given.replace(tzinfo=None) == back.replace(tzinfo=None)
        return same_time and given.utcoffset() == back.utcoffset()
    return isinstance(given, Decimal) and isinstance(back, Decimal) and str(given) == str(back)


def _becomes(given: Any, back: Any) -> Fault:
    return Fault("", given, f"which would come back as {shown(back)}")


def _at(step: Any, value: Any, entries: Any) -> Part:
    """Return the part of a value that is at a step in its JSON."""
    parts = [part for part in parts_of(value, ANYTHING) if not part.step.startswith(KEY)]
    if isinstance(value, Mapping):
        return parts[list(entries).index(step)]
    if isinstance(step, int):
        return parts[step]
    return next(part for part in parts if part.step == f".{step}")


def _guilty(tree: list[Any], above: Any, place: Any, read: Callable[[bytes], Any]) -> Any:
    """Return the key of the mapping's entry that cannot be read; msgspec does not say which."""
    entries: dict[str, Any] = above[place]
    try:
        for key, item in entries.items():
            above[place] = {key: item}
            try:
                read(_encode(tree[0]))
            except Exception:  # noqa: BLE001  # this one
                return key
    finally:
        above[place] = entries
    return None


__all__ = ["Fault", "changed", "endless", "shown", "undecodable", "unencodable"]
