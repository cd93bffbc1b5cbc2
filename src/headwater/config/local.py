"""Configuration without a server: a fixed mapping, or a directory that is read once."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from headwater.config.api import ConfigDocument
from headwater.config.settings import Binder, BoundSettings

T = TypeVar("T")


class StaticConfig:
    """Implements `Config` from a mapping; `change` lets a test play a live change."""

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        name: str = "application",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Hold this nested mapping.

        Args:
            config: sections and values.
            name: the application.
            environment: variables for overrides; those of the process when not given.
        """
        self._binder = Binder(name, os.environ if environment is None else environment)
        self._document = ConfigDocument(name, config=dict(config or {}))
        self._binder.take(self._document)

    @classmethod
    def from_directory(
        cls,
        directory: str | Path,
        app: str,
        profiles: tuple[str, ...] = (),
        *,
        environment: Mapping[str, str] | None = None,
    ) -> "StaticConfig":
        """Read a directory once, by the same rules as the configuration service.

        Raises:
            ConfigurationError: the directory does not exist, or a file is bad.
        """
        from headwater.config.folder import Folder
        from headwater.config.repository import Repository

        folder = Folder(Path(directory))
        files = Repository(folder.load(), name=folder.name, environment=environment)
        document = files.document(app, profiles)
        static = cls(name=app, environment=environment)
        static._document = document
        static._binder.take(document)
        return static

    async def load(self) -> ConfigDocument:
        """Return the document: it is always there."""
        return self._binder.document

    @property
    def document(self) -> ConfigDocument:
        """The newest document."""
        return self._binder.document

    def bind(self, type: type[T], *, prefix: str = "") -> T:
        """Return a section as a msgspec Struct (or any type), converted and validated.

        Raises:
            ConfigurationError: names key, value, what was expected, and the origin.
        """
        return self._binder.bind(type, prefix)

    def settings(self, type: type[T], *, prefix: str = "") -> BoundSettings[T]:
        """Return a section as `bind` does, kept current over `change`.

        Raises:
            ConfigurationError: the present value is invalid already.
        """
        return self._binder.settings(type, prefix)

    def change(self, config: Mapping[str, Any]) -> None:
        """Replace everything; settings follow."""
        self._document = msgspec.structs.replace(self._document, config=dict(config), origins={})
        self._binder.take(self._document)

    async def close(self) -> None:
        """Nothing to do."""


__all__ = ["StaticConfig"]
