"""Dispatch: command bus and query bus, local and remote behind the same call."""

from headwater.dispatch.api import (
    CommandBus,
    CommandInterceptor,
    CommandMessage,
    CommandNext,
    CommandResult,
    QueryBus,
    QueryInterceptor,
    QueryMessage,
    QueryNext,
)
from headwater.dispatch.interceptors import intercepts

__all__ = [
    "CommandBus",
    "CommandInterceptor",
    "CommandMessage",
    "CommandNext",
    "CommandResult",
    "QueryBus",
    "QueryInterceptor",
    "QueryMessage",
    "QueryNext",
    "intercepts",
]
