"""The stored form of messages, views and states: JSON that is read back before it is stored.

Whatever could not be read again, or would come back as something else, is refused while it can
still be refused. Not else are: a tuple in the place of a list, a whole number in that of a
floating-point one; and where a field is declared `Any`, what JSON makes of a value.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect

from headwater.errors import DeclarationError, MalformedMessage, Unstorable
from headwater.messages.faults import Fault, changed, endless, shown, undecodable, unencodable
from headwater.messages.kinds import class_of, kind_of, reachable
from headwater.messages.whole_numbers import TOO_LARGE, Within, beyond, within

Write = Callable[[Any], tuple[bytes, Any]]

_encode = msgspec.json.Encoder().encode


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
        self._kind = kind_of(cls)
        self._within: Within | None = within(inspect.type_info(cls)) if bounded else None
        self._equal = all(map(_compares_fields, reachable(*self._kind.types)))
        self.write: Write = self._writer() if self._equal else self._examine
        self.validate = self._validator()

    def check_whole(self, value: Any) -> None:
        """Check that no whole number has more than 64 bits.

        Raises:
            MalformedMessage: one has, and is not declared `BigInt`.
        """
        found = beyond(value, self._kind)
        if found is not None:
            raise self._malformed(Fault(*found, TOO_LARGE))

    def check_finite(self, value: Any) -> None:
        """Check that no number is infinite or none, which JSON would turn into null.

        Raises:
            MalformedMessage: one is.
        """
        fault = endless(value)
        if fault is not None:
            raise self._malformed(fault)

    def _malformed(self, fault: Fault) -> MalformedMessage:
        reason = f"{fault.place} is {shown(fault.value)}, {fault.reason}"
        return MalformedMessage(name=self.name, reason=reason)

    def _writer(self) -> Write:
        """Return `write` for what is equal when it is read back, as nearly everything is.

        Like `_validator` it is in one piece, because it is on the way of each command.
        """
        read, within, examine = self.read, self._within, self._examine

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

    def _validator(self) -> Callable[[Any], None]:
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
            raise self._unstorable(unencodable(value, error)) from error
        try:
            back = self.read(data)
        except Exception as error:
            raise self._unstorable(undecodable(value, data, self.read, error)) from error
        fault = changed(value, back, self._kind, equal=self._equal)
        if fault is None and self._within is not None and not self._within(back, data):
            found = beyond(back, self._kind)
            fault = None if found is None else Fault(*found, TOO_LARGE)
        if fault is not None:
            raise self._unstorable(fault)
        return data, back

    def _unstorable(self, fault: Fault) -> Unstorable:
        return Unstorable(
            name=self.name,
            field=fault.place or "content",
            value=shown(fault.value),
            reason=fault.reason,
        )


def decoder_of(cls: type) -> Callable[[bytes | str], Any]:
    """Return the function that reads values of a class from JSON.

    Raises:
        DeclarationError: a field has a type that cannot be read.
    """
    try:
        return msgspec.json.Decoder(cls).decode
    except (TypeError, NameError, NotImplementedError) as error:
        reason = f"it could never be read back from its stored form: {error}"
        raise DeclarationError(subject=cls.__name__, reason=reason) from error


def _compares_fields(kind: inspect.Type) -> bool:
    """Whether structs of a type are equal only if all of their fields are."""
    if not isinstance(kind, inspect.StructType):
        return True
    own: Any = class_of(kind).__eq__
    return own is msgspec.Struct.__eq__
