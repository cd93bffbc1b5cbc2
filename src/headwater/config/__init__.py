"""Configuration: settings from files, served to all services and followed as they change.

The client and the server load their libraries when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headwater.config.api import (
    Config,
    ConfigDocument,
    ConfigOrigin,
    Settings,
    SettingsChange,
    SettingsFile,
    SettingsSource,
    SettingsState,
    SettingsStore,
)
from headwater.config.local import StaticConfig

if TYPE_CHECKING:
    from headwater.config.client import ConfigClient
    from headwater.config.server import ConfigServer

_HOMES = {
    "ConfigClient": "headwater.config.client",
    "ConfigServer": "headwater.config.server",
}


def __getattr__(name: str) -> Any:
    """Load a name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


__all__ = [
    "Config",
    "ConfigClient",
    "ConfigDocument",
    "ConfigOrigin",
    "ConfigServer",
    "Settings",
    "SettingsChange",
    "SettingsFile",
    "SettingsSource",
    "SettingsState",
    "SettingsStore",
    "StaticConfig",
]
