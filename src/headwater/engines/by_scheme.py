"""Engines by URL scheme: ours, and those that installed packages register.

A URL such as ``sqlite:data/events.db`` names a place; its scheme names the engine that opens it. An
engine is an object that says how to open a place and what it can do: an `EventStoreEngine`,
`EventBusEngine` or `ViewStoreEngine`. A package registers its own as entry points, named after the
schemes, in the groups ``headwater.eventstores``, ``headwater.eventbuses`` and
``headwater.viewstores``.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from headwater.errors import ConfigurationError

E = TypeVar("E", bound="Engine")


def _no_file(_url: str) -> None:
    return None


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for the engines of stores and buses.

    Attributes:
        shared: whether several processes may open one place at the same time, and what is in it
            outlives them. If not, each opening has a place of its own, which ends with it.
        name_of: returns what the place of a URL is called in messages: the same for the same
            place, and without passwords. Raises `ConfigurationError` for a URL that is wrong.
        file_of: returns the file of this machine that a place is in; None when it is elsewhere.
    """

    shared: bool
    name_of: Callable[[str], str] = str
    file_of: Callable[[str], Path | None] = _no_file


class Engines(Generic[E]):
    """The engines of one kind, by scheme."""

    def __init__(self, kind: type[E], group: str, *, what: str, own: Mapping[str, str]) -> None:
        """Describe; nothing is imported before it is asked for.

        Args:
            kind: the class of the engines.
            group: of the entry points.
            what: what they open, for messages.
            own: where the engines of Headwater are, as the values of entry points are written.
        """
        self._kind = kind
        self._group = group
        self._what = what
        self._own = own

    def of(self, url: str) -> E:
        """Return the engine that a URL names.

        Raises:
            ConfigurationError: there is none of its scheme, it cannot be imported, or several
                packages register one.
        """
        scheme, colon, _ = url.partition(":")
        if not colon:  # may hold a password nevertheless
            reason = f"is no URL: expected one of {self._schemes()} with what it names"
            raise ConfigurationError(subject=f"the URL of the {self._what}", reason=reason)
        own = self._own.get(scheme)
        if own is not None:
            engine: E = EntryPoint(scheme, own, self._group).load()
            return engine
        return self._registered(scheme)

    def name_of(self, url: str) -> str:
        """Return what the place of a URL is called in messages; raises as `of`."""
        return self.of(url).name_of(url)

    def file_of(self, url: str) -> Path | None:
        """Return the file of this machine that the place of a URL is in, if any; raises as `of`."""
        return self.of(url).file_of(url)

    def _registered(self, scheme: str) -> E:
        found = {
            f"{point.dist.name} {point.dist.version}" if point.dist else "?": point
            for point in entry_points(group=self._group, name=scheme)
        }
        subject = f"{self._what} {scheme!r}"
        if not found:
            reason = (
                f"there is no engine for this scheme, only {self._schemes()}: correct the URL, or "
                f"install a package that registers one (entry point {scheme!r} in the group "
                f"{self._group!r})"
            )
            raise ConfigurationError(subject=subject, reason=reason)
        if len(found) > 1:
            reason = f"several packages register an engine, uninstall all but one: {_listed(found)}"
            raise ConfigurationError(subject=subject, reason=reason)
        [(package, point)] = found.items()
        try:
            engine = point.load()
        except Exception as error:
            reason = (
                f"the engine of package {package} ({point.value}) cannot be imported "
                f"({type(error).__name__}: {error}): install another version of it"
            )
            raise ConfigurationError(subject=subject, reason=reason) from error
        if not isinstance(engine, self._kind):
            reason = (
                f"package {package} registers {point.value}, which is of type "
                f"{type(engine).__name__}: expected {self._kind.__name__}"
            )
            raise ConfigurationError(subject=subject, reason=reason)
        return engine

    def _schemes(self) -> str:
        return _listed({*self._own, *entry_points(group=self._group).names})


def _listed(names: Mapping[str, object] | set[str]) -> str:
    return ", ".join(map(repr, sorted(names)))


__all__ = ["Engine", "Engines"]
