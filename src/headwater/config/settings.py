"""Settings that stay current: each new document is bound again, an invalid one is refused."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Generic, TypeVar

import structlog

from headwater._http.signal import Signal
from headwater.config.api import ConfigDocument
from headwater.config.binding import bind, override
from headwater.errors import ConfigurationError

T = TypeVar("T")

_log = structlog.get_logger("headwater.config")


class BoundSettings(Generic[T]):
    """Implements `Settings`; fed by a `Binder`."""

    def __init__(self, document: ConfigDocument, type: type[T], prefix: str) -> None:
        """Bind a first time.

        Raises:
            ConfigurationError: the present value is invalid.
        """
        self._type = type
        self._prefix = prefix
        self._current = bind(document, type, prefix=prefix)
        self._callbacks: list[Callable[[T], object]] = []
        self._signal = Signal()
        self.error = ""

    @property
    def current(self) -> T:
        """The newest valid value. It changes between two reads, never inside a value."""
        return self._current

    async def changes(self) -> AsyncIterator[T]:
        """Yield the current value at once and each later one; a slow reader sees the newest."""
        while True:
            following, value = self._signal.next, self._current
            yield value
            if self._current is value:
                await following.wait()

    def on_change(self, callback: Callable[[T], object]) -> Callable[[], None]:
        """Call this with each later value, in the event loop; return what ends that.

        What it raises is logged and harms nobody.
        """
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    def take(self, document: ConfigDocument) -> None:
        """Bind a new document; keep the old value when it is invalid."""
        try:
            value = bind(document, self._type, prefix=self._prefix)
        except ConfigurationError as error:
            self.error = str(error)
            _log.error(
                "new settings refused, the old ones stay",
                settings=self._type.__name__,
                reason=self.error,
            )
            return
        self.error = ""
        if value == self._current:
            return
        self._current = value
        _log.info("settings changed", settings=self._type.__name__, version=document.version)
        self._signal.send()
        for callback in list(self._callbacks):
            try:
                callback(value)
            except Exception:  # noqa: BLE001 - it is not ours, and the others must be told
                _log.exception("a callback on changed settings failed")


class Binder:
    """Holds the newest document, with environment overrides, and what was bound from it."""

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        """Begin with an empty document."""
        self._environment = environment
        self._settings: list[BoundSettings[Any]] = []
        self.document = override(ConfigDocument(name), environment)

    def take(self, document: ConfigDocument) -> None:
        """Replace the document and refresh all settings."""
        self.document = override(document, self._environment)
        for settings in self._settings:
            settings.take(self.document)

    def bind(self, type: type[T], prefix: str) -> T:
        """Bind once."""
        return bind(self.document, type, prefix=prefix)

    def settings(self, type: type[T], prefix: str) -> BoundSettings[T]:
        """Bind and keep current."""
        settings = BoundSettings(self.document, type, prefix)
        self._settings.append(settings)
        return settings


__all__ = ["Binder", "BoundSettings"]
