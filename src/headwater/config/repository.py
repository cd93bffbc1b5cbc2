"""The effective configuration of an application, from a directory of files.

Strongest first: ``{app}-{profile}`` (the last profile is the strongest), ``application-{profile}``
(the same), ``{app}``, ``application``. A label is a subdirectory that is used instead of the root;
a label that does not exist falls back to the root, which the answer says.
"""

import hashlib
import os
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import msgspec

from headwater.config.api import ConfigDocument, ConfigSource
from headwater.config.files import SUFFIXES
from headwater.config.folder import Folder, Scan, SettingsFile
from headwater.config.tree import Path as KeyPath
from headwater.config.tree import Tree, dotted, leaves, merge, resolve
from headwater.errors import ConfigurationError, InvalidInput

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_REMEMBERED = 1024

Request = tuple[str, tuple[str, ...], str]


class Repository:
    """Answers requests from the files of a `Folder`. One thread at a time."""

    def __init__(
        self,
        directory: str | Path,
        *,
        environment: Mapping[str, str] | None = None,
        settle_s: float = 0.1,
    ) -> None:
        """Read the directory.

        A bad file does not hinder the applications that do not use it; see `document`.

        Args:
            directory: where the files are.
            environment: variables for placeholders; those of the process when not given.
            settle_s: a file that changed is read after it was left alone for so long.

        Raises:
            ConfigurationError: the directory does not exist.
        """
        self._folder = Folder(Path(directory), settle_s=settle_s)
        self._environment = os.environ if environment is None else environment
        self._good: OrderedDict[Request, ConfigDocument] = OrderedDict()
        self._fresh: dict[Request, ConfigDocument] = {}
        self._folder.load()

    @property
    def directory(self) -> Path:
        """Where the files are."""
        return self._folder.directory

    def scan(self) -> Scan:
        """Look for changes; may run in another thread, one at a time. `take` the result."""
        return self._folder.scan()

    def take(self, scan: Scan) -> None:
        """Answer from what a scan found."""
        self._folder.take(scan)
        if scan.changed:
            self._fresh = {}

    def errors(self) -> dict[str, str]:
        """Return why files, or documents that were asked for, are refused at the moment."""
        found = {name: file.error for name, file in self._folder.files.items() if file.error}
        if self._folder.error:
            found[str(self.directory)] = self._folder.error
        for twice in self._twice():
            found[twice] = self._twice_reason(twice)
        for (app, profiles, label), document in list(self._good.items()):
            latest = self.document(app, profiles, label)
            if latest.error and latest.error not in found.values():
                found["/".join(filter(None, (document.name, ",".join(profiles), label)))] = (
                    latest.error
                )
        return found

    def files(self) -> list[SettingsFile]:
        """Return all files, by name."""
        return [self._folder.files[name] for name in sorted(self._folder.files)]

    def document(self, app: str, profiles: tuple[str, ...] = (), label: str = "") -> ConfigDocument:
        """Return the effective configuration.

        While one of its files is bad, or a placeholder cannot be resolved, the last good document
        is returned, with the reason in ``error``.

        Raises:
            InvalidInput: a name has other characters than letters, digits and ``. _ -``.
            ConfigurationError: it is bad and never was good; names file and line.
        """
        request = _checked(app, profiles, label)
        fresh = self._fresh.get(request)
        if fresh is None:
            fresh = self._fresh[request] = self._make(*request)
            if len(self._fresh) > _REMEMBERED:
                self._fresh = {request: fresh}
        return fresh

    def _make(self, app: str, profiles: tuple[str, ...], label: str) -> ConfigDocument:
        request = (app, profiles, label)
        good = self._good.get(request)
        try:
            document = self._merge(app, profiles, label)
        except ConfigurationError as error:
            if good is None:
                raise
            return msgspec.structs.replace(good, error=str(error))
        if not document.error:
            self._good[request] = document
            self._good.move_to_end(request)
            if len(self._good) > _REMEMBERED:
                self._good.popitem(last=False)
        return document

    def _merge(self, app: str, profiles: tuple[str, ...], label: str) -> ConfigDocument:
        served = label if self._has_label(label) else ""
        tree: Tree = {}
        origins: dict[str, str] = {}
        sources: list[ConfigSource] = []
        refused = ""
        for file in self._chosen(app, profiles, served):
            if file.document is None:
                subject, _, reason = file.error.partition(": ")
                raise ConfigurationError(subject=subject, reason=reason)
            refused = refused or file.error
            content = file.document
            paths = [dotted(path) for path, _ in leaves(content.tree) if path]
            tree = merge(tree, content.tree)
            lines = content.lines
            origins |= {p: f"{file.name}:{lines[p]}" if p in lines else file.name for p in paths}
            sources.append(ConfigSource(file.name, len(paths)))
        config = resolve(tree, self._environment, _failure(origins))
        return ConfigDocument(
            name=app,
            profiles=profiles,
            label=served,
            version=_version(app, profiles, served, config),
            config=config,
            sources=tuple(reversed(sources)),
            origins={p: origins[p] for path, _ in leaves(config) if (p := dotted(path)) in origins},
            requested_label=label,
            error=refused,
        )

    def _chosen(self, app: str, profiles: tuple[str, ...], label: str) -> Iterator[SettingsFile]:
        """Yield the files, weakest first."""
        stems = ["application", app]
        stems += [f"application-{profile}" for profile in profiles]
        stems += [f"{app}-{profile}" for profile in profiles]
        twice = self._twice()
        for stem in dict.fromkeys(stems):
            base = f"{label}/{stem}" if label else stem
            for suffix in SUFFIXES:
                file = self._folder.files.get(base + suffix)
                if file is None:
                    continue
                if file.name in twice:
                    raise ConfigurationError(
                        subject=file.name, reason=self._twice_reason(file.name)
                    )
                yield file

    def _has_label(self, label: str) -> bool:
        prefix = f"{label}/"
        return bool(label) and any(name.startswith(prefix) for name in self._folder.files)

    def _twice(self) -> set[str]:
        names = self._folder.files
        counts = Counter(_stem(name) for name in names)
        return {name for name in names if counts[_stem(name)] > 1}

    def _twice_reason(self, name: str) -> str:
        stem = _stem(name)
        others = [stem + s for s in SUFFIXES if stem + s in self._folder.files and stem + s != name]
        return f"{', '.join(others)} has the same name: keep one of them"


def _checked(app: str, profiles: tuple[str, ...], label: str) -> Request:
    parts = [("application", app), *(("profile", profile) for profile in profiles)]
    parts += [("label", part) for part in label.split("/") if label]
    for kind, text in parts:
        if not _NAME.fullmatch(text):
            raise InvalidInput(
                reason=f"{kind} {text!r} is no name: use letters, digits and . _ - only"
            )
    return app, tuple(dict.fromkeys(profiles)), label


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _failure(origins: Mapping[str, str]) -> Callable[[KeyPath, str], ConfigurationError]:
    def fail(path: KeyPath, reason: str) -> ConfigurationError:
        key = dotted(path)
        return ConfigurationError(
            subject=origins.get(key, "the configuration"), reason=f"key {key!r}: {reason}"
        )

    return fail


def _version(app: str, profiles: tuple[str, ...], label: str, config: Tree) -> str:
    content = msgspec.json.encode([app, profiles, label, config], order="sorted")
    return hashlib.sha256(content).hexdigest()[:16]


__all__ = ["Repository"]
