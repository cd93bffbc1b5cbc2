"""The two ports of configuration.

`Config` is what a service sees: the settings of one application, as a document and as typed
values. `SettingsSource` and `SettingsStore` are where the configuration service has the settings
files from.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class ConfigOrigin(msgspec.Struct, frozen=True):
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
    sources: tuple[ConfigOrigin, ...] = ()
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


class SettingsFile(msgspec.Struct, frozen=True):
    """A settings file as it is kept.

    Attributes:
        name: relative, with ``/`` between folders, such as ``eu/orders.yaml``.
        content: what is in it.
        change: number of the change that stored this content; 0 where changes have no numbers.
        error: why its content could not be read; ``content`` is empty then.
    """

    name: str
    content: bytes
    change: int = 0
    error: str = ""


class SettingsState(msgspec.Struct, frozen=True):
    """All settings files as they were at one moment.

    Attributes:
        files: by name.
        change: number of the latest change; 0 when there was none, or they have no numbers.
        error: why this may be out of date: the place of the files cannot be reached.
    """

    files: Mapping[str, SettingsFile] = {}
    change: int = 0
    error: str = ""

    def contents(self) -> dict[str, bytes]:
        """Return what is in each file that can be read, by name."""
        return {name: file.content for name, file in self.files.items() if not file.error}


class SettingsChange(msgspec.Struct, frozen=True):
    """What was stored at one time, by one person.

    Attributes:
        number: dense from 1, over all files.
        time: Unix time in microseconds.
        author: who made it.
        comment: why.
        added: names of files that were not there before, sorted; the others likewise.
        changed: names of files with another content.
        removed: names of files that are not there any more.
    """

    number: int
    time: int
    author: str = ""
    comment: str = ""
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class SettingsSource(Protocol):
    """A place of settings files that is read and followed. Their contents are not looked into."""

    @property
    def name(self) -> str:
        """What it is called in messages; without a password."""

    async def read(self) -> SettingsState:
        """Return the files as they are now: what was changed together, together.

        Raises:
            ConfigurationError, StoreUnavailable, StoreError: they cannot be had.
        """

    def follow(self, state: SettingsState) -> AsyncIterator[SettingsState]:
        """Yield each later state than the one given, for ever; a slow reader sees the newest.

        Changes of other processes arrive within milliseconds (the files of a directory: when they
        have been left alone for a moment). While the place cannot be reached, the last state is
        yielded once more, with ``error``; what has changed meanwhile arrives by itself when it is
        back. Cancellation: nothing is left behind.
        """

    async def close(self) -> None:
        """Release everything. Twice is fine."""


class SettingsStore(SettingsSource, Protocol):
    """A place of settings files that keeps every state they were ever in. Nothing is overwritten.

    Changes are numbered from 1 without gaps. They become visible in that order, each as a whole,
    and are durable when `push` returns.
    """

    @property
    def id(self) -> str:
        """What tells this store from any other; it stays for as long as its history does."""

    async def push(
        self, files: Mapping[str, bytes], *, expected: int, author: str = "", comment: str = ""
    ) -> SettingsChange | None:
        """Make these the files, all others are removed; return the change, None if it is none.

        Of several that expect the same change one is stored, the others are told. Files that are
        all as stored already are no change, whatever was expected; so repeating it is harmless.
        Cancellation: wholly stored or not at all.

        Args:
            files: content by name.
            expected: number of the latest change that the caller knows of.
            author: who makes the change.
            comment: why.

        Raises:
            ConfigurationError: a file is bad; names it, with the line. Nothing was stored.
            SettingsConflict: there was another change meanwhile. Nothing was stored.
            StoreUnavailable, DiskFull: nothing was stored, or that is unknown, as its outcome says.
        """

    async def history(self, *, file: str = "", limit: int = 100) -> Sequence[SettingsChange]:
        """Return the latest changes, the newest first; of one file, when it is named."""

    async def at(self, number: int) -> SettingsState:
        """Return the files as they were after a change; 0 is before the first.

        Raises:
            ChangeNotFound: there is no such change.
        """


__all__ = [
    "Config",
    "ConfigDocument",
    "ConfigOrigin",
    "Settings",
    "SettingsChange",
    "SettingsFile",
    "SettingsSource",
    "SettingsState",
    "SettingsStore",
]
