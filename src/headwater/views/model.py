"""View types: keyed documents with declared indexes."""

import functools
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from headwater.errors import DeclarationError


class Key:
    """Marks the field that identifies a document: ``id: Annotated[str, Key]``."""


class Index:
    """Marks a field to find and order by: ``holder: Annotated[str, Index]``."""


class View(msgspec.Struct):
    """Base of read models: a mutable document with one key and any number of indexes."""


class ViewType(msgspec.Struct, frozen=True):
    """What is known about one view class.

    Attributes:
        cls: the class.
        name: its name in stores.
        key: the name of its key field.
        indexes: the names of its indexed fields, in order of declaration.
        defaults: whether all fields but the key have defaults, so that an event may start one.
        encode, decode: msgspec JSON.
    """

    cls: Any
    name: str
    key: str
    indexes: tuple[str, ...]
    defaults: bool
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]

    def key_of(self, view: Any) -> str:
        """Return a document's key as text."""
        return str(getattr(view, self.key))


@functools.cache
def view_type(cls: type[View]) -> ViewType:
    """Return the `ViewType` of a view class.

    Raises:
        DeclarationError: not exactly one field is marked `Key`, it is not text or a number, or
            an indexed field is not text, a number or a truth value.
    """
    hints = get_type_hints(cls, include_extras=True)
    keys = [name for name, hint in hints.items() if _marked(hint, Key)]
    if len(keys) != 1:
        raise DeclarationError(
            subject=cls.__name__,
            reason=f"a view needs one field marked Key, found {keys}: id: Annotated[str, Key]",
        )
    indexes = tuple(name for name, hint in hints.items() if _marked(hint, Index))
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    return ViewType(
        cls=cls,
        name=cls.__name__,
        key=keys[0],
        indexes=indexes,
        defaults=all(not field.required for name, field in fields.items() if name != keys[0]),
        encode=msgspec.json.Encoder().encode,
        decode=msgspec.json.Decoder(cls).decode,
    )


def _marked(hint: Any, mark: type) -> bool:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return any(m is mark or isinstance(m, mark) for m in marks)
