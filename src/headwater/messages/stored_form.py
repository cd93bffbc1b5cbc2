"""The stored form of messages, views and states: JSON that is read back before it is stored.

Whatever could not be read again, or would come back as something else, is refused while it can
still be refused. Not else are: a tuple in the place of a list, a whole number in that of a
floating-point one; and where a field is declared `Any`, what JSON makes of a value.
"""

import contextlib
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from headwater.errors import DeclarationError, MalformedMessage, Unstorable
from headwater.messages.kinds import (
    ANYTHING,
    KEY,
    Kinds,
    Part,
    class_of,
    is_collection,
    is_open,
    is_record,
    joined,
    kinds_of,
    parts_of,
    reachable,
)
from headwater.messages.whole_numbers import TOO_LARGE, Within, beyond, within

Write = Callable[[Any], tuple[bytes, Any]]

_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode
_SHOWN_MAX = 80
_DEPTH_MAX = 64
_NO_JSON = "which has no form in JSON"


class Fault(NamedTuple):
    """What is wrong with a value: where, the part that is at fault, and why."""

    path: str
    value: Any
    reason: str


class StoredForm:
    """How values of one class are stored.

    Attributes:
        name: how errors call its values.
        write: returns a value's JSON, and the value as it is read back from that. Raises
            `Unstorable` when it would not be the same value.
        validate: checks that what a value holds is what its class declares; raises
            `MalformedMessage`. Unlike `write` it lets pass what JSON makes of a value.
        read: returns a value from its JSON.
    """

    def __init__(self, cls: type, name: str, *, bounded: bool = True) -> None:
        """Compile the form.

        Args:
            cls: a struct.
            name: how errors call its values, such as ``event 'Deposited'``.
            bounded: whether its whole numbers have at most 64 bits.

        Raises:
            DeclarationError: values of the class could never be read.
        """
        self.name = name
        self.read: Callable[[bytes | str], Any] = decoder_of(cls)
        self._kinds = kinds_of(cls)
        self._within: Within | None = within(self._kinds) if bounded else None
        self.validate = self._validator()
        quick = all(map(_compares_fields, reachable(self._kinds)))
        self.write: Write = (
            _writer(self.read, self._within, self._examine) if quick else self._examine
        )

    def check_whole(self, value: Any) -> None:
        """Check that no whole number has more than 64 bits.

        Raises:
            MalformedMessage: one has, and is not declared `BigInt`.
        """
        found = beyond(value, self._kinds)
        if found is not None:
            raise self._malformed(Fault(*found, TOO_LARGE))

    def check_finite(self, value: Any) -> None:
        """Check that no number is infinite or none, which JSON would turn into null.

        Raises:
            MalformedMessage: one is.
        """
        fault = _endless(value, "")
        if fault is not None:
            raise self._malformed(fault)

    def _malformed(self, fault: Fault) -> MalformedMessage:
        reason = f"{fault.path} is {shown(fault.value)}, {fault.reason}"
        return MalformedMessage(name=self.name, reason=reason)

    def _validator(self) -> Callable[[Any], None]:
        """Return `validate`, in one piece: it is on the way of each command."""
        read, within, name, check_whole = self.read, self._within, self.name, self.check_whole

        def validate(value: Any) -> None:
            try:
                data = _encode(value)
                back = read(data)
            except Exception as error:
                raise MalformedMessage(name=name, reason=str(error)) from error
            if within is not None and not within(back, data):
                check_whole(back)

        return validate

    def _examine(self, value: Any) -> tuple[bytes, Any]:
        """Write a value of which something did not look right, or say what is wrong.

        Raises:
            Unstorable: it would not come back as the same value.
        """
        try:
            data = _encode(value)
        except Exception as error:
            raise self._unstorable(_unencodable(value, error)) from error
        try:
            back = self.read(data)
        except Exception as error:
            raise self._unstorable(_undecodable(value, data, self.read, error)) from error
        fault = _changed(value, back, self._kinds)
        if fault is None and self._within is not None:
            found = beyond(back, self._kinds)
            fault = None if found is None else Fault(*found, TOO_LARGE)
        if fault is not None:
            raise self._unstorable(fault)
        return data, back

    def _unstorable(self, fault: Fault) -> Unstorable:
        path, value, reason = fault
        return Unstorable(
            name=self.name, field=path or "content", value=shown(value), reason=reason
        )


def decoder_of(cls: type) -> Callable[[bytes | str], Any]:
    """Return the function that reads values of a class from JSON.

    Raises:
        DeclarationError: a field has a type that cannot be read.
    """
    try:
        return msgspec.json.Decoder(cls).decode
    except (TypeError, NameError) as error:
        reason = f"it could never be read back from its stored form: {error}"
        raise DeclarationError(subject=cls.__name__, reason=reason) from error


def shown(value: Any) -> str:
    """Return a value for a message, shortened."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # a number with too many digits, or a class of the domain
        text = f"a {type(value).__name__}"
        if isinstance(value, int):
            text = f"a whole number of {value.bit_length()} bits"
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


def _compares_fields(kind: inspect.Type) -> bool:
    """Whether structs of a type are equal only if all of their fields are."""
    if not isinstance(kind, inspect.StructType):
        return True
    own: Any = class_of(kind).__eq__
    return own is msgspec.Struct.__eq__


def _writer(
    read: Callable[[bytes], Any],
    within: Within | None,
    examine: Write,
) -> Write:
    """Return the way by which nearly every value goes: equal to itself when it is read back."""

    def write(value: Any) -> tuple[bytes, Any]:
        try:
            data = _encode(value)
            back = read(data)
            if back == value and (within is None or within(back, data)):
                return data, back
        except Exception:  # noqa: BLE001, S110  # it will be raised again, with its place
            pass
        return examine(value)

    return write


def _changed(given: Any, back: Any, kinds: Kinds, path: str = "") -> Fault | None:
    """Return what of a value comes back as something else, if anything."""
    if is_open(kinds):
        return _endless(given, path)
    if is_record(back):
        same = type(given) is type(back)
        return _first_changed(given, back, kinds, path) if same else _becomes(given, back, path)
    if isinstance(back, Mapping):
        return _changed_mapping(given, back, kinds, path)
    if is_collection(back):
        return _changed_collection(given, back, kinds, path)
    if _equal(given, back) or _equal_though_not_to_python(given, back):
        return None
    return _endless(given, path) or _becomes(given, back, path)


def _equal_though_not_to_python(given: Any, back: Any) -> bool:
    """Whether it is the same time of those told twice in autumn, or a decimal that is no number."""
    if isinstance(given, datetime) and isinstance(back, datetime):
        same_time = given.replace(tzinfo=None) == back.replace(tzinfo=None)
        return same_time and given.utcoffset() == back.utcoffset()
    return isinstance(given, Decimal) and isinstance(back, Decimal) and str(given) == str(back)


def _changed_collection(given: Any, back: Any, kinds: Kinds, path: str) -> Fault | None:
    if not is_collection(given) or len(given) != len(back):
        return _becomes(given, back, path)
    if not isinstance(back, set | frozenset):
        return _first_changed(given, back, kinds, path)
    with contextlib.suppress(TypeError):  # of what has no hash
        if set(given) == back:
            return None
    same = {_encode(item) for item in given} == {_encode(item) for item in back}
    return None if same else _becomes(given, back, path)


def _changed_mapping(given: Any, back: Mapping[Any, Any], kinds: Kinds, path: str) -> Fault | None:
    if not isinstance(given, Mapping) or len(given) != len(back):
        return _becomes(given, back, path)
    of_given, of_back = parts_of(given, kinds), parts_of(back, kinds)
    for key, key_back in zip(of_given, of_back, strict=True):
        item, item_back = next(of_given), next(of_back)
        if not is_open(key.kinds) and not _equal(key.value, key_back.value):
            return _becomes(key.value, key_back.value, joined(path, key.step))
        fault = _changed(item.value, item_back.value, item.kinds, joined(path, item.step))
        if fault is not None:
            return fault
    return None


def _first_changed(given: Any, back: Any, kinds: Kinds, path: str) -> Fault | None:
    pairs = zip(parts_of(given, kinds), parts_of(back, kinds), strict=True)
    found = (
        _changed(part.value, read.value, part.kinds, joined(path, part.step))
        for part, read in pairs
    )
    return next(filter(None, found), None)


def _becomes(given: Any, back: Any, path: str) -> Fault:
    return Fault(path, given, f"which would come back as {shown(back)}")


def _endless(value: Any, path: str) -> Fault | None:
    """Return a floating-point number that is infinite or none, which JSON turns into null."""
    if isinstance(value, float):
        return None if math.isfinite(value) else Fault(path, value, _NO_JSON)
    found = (_endless(p.value, joined(path, p.step)) for p in parts_of(value, ANYTHING))
    return next(filter(None, found), None)


def _equal(given: Any, back: Any) -> bool:
    try:
        return bool(back == given)
    except Exception:  # noqa: BLE001  # a class of the domain, or a decimal that signals
        return False


def _unencodable(value: Any, error: Exception, path: str = "", depth: int = 0) -> Fault:
    """Return the innermost part of a value that has no JSON."""
    for part in parts_of(value, ANYTHING) if depth < _DEPTH_MAX else ():
        if part.value is msgspec.UNSET:
            continue  # left out
        try:
            _encode(part.value)
        except Exception as inner:  # noqa: BLE001  # whatever it is, it is what is looked for
            if part.step.startswith(KEY):
                break  # the entry's own
            return _unencodable(part.value, inner, joined(path, part.step), depth + 1)
    return Fault(path, value, f"{_NO_JSON} ({error})")


def _undecodable(value: Any, data: bytes, read: Callable[[bytes], Any], error: Exception) -> Fault:
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
            path, value = joined(path, part.step), part.value
            above, place = here, step
    return _endless(value, path) or Fault(path, value, f"which could not be read back ({why})")


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
