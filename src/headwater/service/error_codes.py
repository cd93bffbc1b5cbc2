"""The errors that a service knows: those that its code can see."""

import inspect
import sys
from collections.abc import Iterable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import headwater.errors
from headwater.errors import HeadwaterError


def errors_of(classes: Iterable[type]) -> Iterator[type[HeadwaterError]]:
    """Yield the error classes that some classes can see, and Headwater's own first.

    Those are what is in their modules, and what their methods name.
    """
    found: dict[type[HeadwaterError], None] = {}
    _keep(found, vars(headwater.errors).values())
    for cls in classes:
        module = sys.modules.get(cls.__module__)
        _keep(found, vars(module).values() if module is not None else ())
        for base in cls.__mro__:
            for member in vars(base).values():
                if isinstance(member, FunctionType):
                    _keep(found, _named_in(member))
    yield from found


def _keep(found: dict[type[HeadwaterError], None], values: Iterable[Any]) -> None:
    for value in list(values):
        if isinstance(value, type) and issubclass(value, HeadwaterError):
            found.setdefault(value)


def _named_in(function: FunctionType) -> Iterator[Any]:
    """Yield what the code of a function names: of its closure, its module and modules there."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is not bound yet
            continue
    names = function.__code__.co_names
    for name in names:
        value = function.__globals__.get(name)
        yield value
        if isinstance(value, ModuleType):
            yield from (inspect.getattr_static(value, inner, None) for inner in names)
