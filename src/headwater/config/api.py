"""The configuration port: settings of one application, as a document and as typed values."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, TypeVar

import msgspec

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class ConfigSource(msgspec.Struct, frozen=True):
    """A file that contributed, highest precedence first in a document's list."""

    name: str
    keys: int


class ConfigDocument(msgspec.Struct, frozen=True):
    """The effective configuration of an application.

    Attributes:
        name: the application.
        profiles: the profiles asked for; the last is the strongest.
        label: the label served; empty for the root, also when the one asked for does not exist.
        version: hash of the content; equal versions have equal ``config``.
        config: merged, nested, placeholders resolved.
        sources: where it came from, strongest first.
        origins: for each leaf, by dotted path, ``file:line`` (the line where it is known).
        requested_label: the label asked for.
        error: why a newer state of the files is refused; what is served is the last good one.
    """

    name: str
    profiles: tuple[str, ...] = ()
    label: str = ""
    version: str = ""
    config: dict[str, Any] = {}
    sources: tuple[ConfigSource, ...] = ()
    origins: dict[str, str] = {}
    requested_label: str = ""
    error: str = ""


class Settings(Protocol[T_co]):
    """Typed settings that stay current while the process runs."""

    @property
    def current(self) -> T_co:
        """The newest valid value. It changes between two reads, never inside a value."""

    def changes(self) -> AsyncIterator[T_co]:
        """Yield the current value at once and each later one; a slow reader sees the newest."""

    def on_change(self, callback: Callable[[T_co], object]) -> Callable[[], None]:
        """Call this with each later value, in the event loop; return what ends that."""


class Config(Protocol):
    """The configuration of this process.

    `load` first. Afterwards the document follows changes by itself and survives the server's
    absence. Environment variables ``HEADWATER__SECTION__KEY`` win over everything.
    """

    async def load(self) -> ConfigDocument:
        """Fetch the configuration and follow it from now on. Twice is fine.

        Raises:
            StartupError: it cannot be had within the start time-out.
        """

    @property
    def document(self) -> ConfigDocument:
        """The newest document."""

    def bind(self, type: type[T], *, prefix: str = "") -> T:
        """Return a section as a msgspec Struct (or any type), converted and validated.

        Raises:
            ConfigurationError: names key, value, what was expected, and the origin.
        """

    def settings(self, type: type[T], *, prefix: str = "") -> Settings[T]:
        """Return a section as `bind` does, kept current. An invalid change is refused and logged.

        Raises:
            ConfigurationError: the present value is invalid already.
        """

    async def close(self) -> None:
        """Follow no more. Twice is fine."""


__all__ = ["Config", "ConfigDocument", "ConfigSource", "Settings"]
