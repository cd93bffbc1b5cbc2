"""Functions to decorate in one test without a trace in the next."""

from collections.abc import Callable
from types import FunctionType
from typing import Any


def anew(function: Callable[..., Any]) -> Any:
    """Return a copy of a function without the marks of decorators."""
    assert isinstance(function, FunctionType)
    copy = FunctionType(function.__code__, function.__globals__, function.__name__)
    copy.__annotations__ = dict(function.__annotations__)
    copy.__qualname__ = function.__qualname__
    return copy
