"""The effective configuration of an application, from settings files.

Strongest first: ``{app}-{profile}`` (the last profile is the strongest), ``application-{profile}``
(the same), ``{app}``, ``application``. A label is a folder that is used instead of the root;
a label that does not exist falls back to the root, which the answer says.
"""

import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

import msgspec

from headwater.config.api import ConfigDocument, ConfigOrigin, SettingsFile, SettingsState
from headwater.config.checks import same_name_reason, same_names
from headwater.config.files import SUFFIXES, Document, parse
from headwater.config.tree import Path as KeyPath
from headwater.config.tree import Tree, dotted, leaves, merge, resolve
from headwater.errors import ConfigurationError, InvalidInput

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_REMEMBERED = 1024

Request = tuple[str, tuple[str, ...], str]


class ServedFile(msgspec.Struct, frozen=True):
    """One file: its last good content, and why its present content is refused, if it is."""

    file: SettingsFile
    document: Document | None
    error: str = ""

    @property
    def name(self) -> str:
        """Its name."""
        return self.file.name


class Repository:
    """Answers requests from the settings files that it was given last. One thread at a time."""

    def __init__(
        self, state: SettingsState, *, name: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Answer from these files.

        A bad file does not hinder the applications that do not use it; see `document`.

        Args:
            state: the files.
            name: where they are from, for messages.
            environment: variables for placeholders; those of the process when not given.
        """
        self.name = name
        self._environment = os.environ if environment is None else environment
        self._good: OrderedDict[Request, ConfigDocument] = OrderedDict()
        self._fresh: dict[Request, ConfigDocument] = {}
        self._files: dict[str, ServedFile] = {}
        self.state = SettingsState()
        self.take(state, self.parse(state))

    def parse(self, state: SettingsState) -> dict[str, ServedFile]:
        """Parse what has changed in the files; may run in another thread. `take` the result."""
        return {name: self._parsed(file) for name, file in state.files.items()}

    def take(self, state: SettingsState, files: dict[str, ServedFile]) -> None:
        """Answer from these files."""
        self.state, self._files, self._fresh = state, files, {}

    def _parsed(self, file: SettingsFile) -> ServedFile:
        known = self._files.get(file.name)
        if known is not None and known.file == file:
            return known
        good = known.document if known else None
        if file.error:
            return ServedFile(file, good, file.error)
        try:
            return ServedFile(file, parse(file.content, name=file.name))
        except ConfigurationError as error:
            return ServedFile(file, good, str(error))

    def errors(self) -> dict[str, str]:
        """Return why files, or documents that were asked for, are refused at the moment."""
        found = {name: file.error for name, file in self._files.items() if file.error}
        if self.state.error:
            found[self.name] = self.state.error
        for name, others in self._same_names().items():
            found[name] = same_name_reason(others)
        for (app, profiles, label), document in list(self._good.items()):
            latest = self.document(app, profiles, label)
            if latest.error and latest.error not in found.values():
                found["/".join(filter(None, (document.name, ",".join(profiles), label)))] = (
                    latest.error
                )
        return found

    def files(self) -> list[ServedFile]:
        """Return all files, by name."""
        return [self._files[name] for name in sorted(self._files)]

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
        sources: list[ConfigOrigin] = []
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
            sources.append(ConfigOrigin(file.name, len(paths)))
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

    def _chosen(self, app: str, profiles: tuple[str, ...], label: str) -> Iterator[ServedFile]:
        """Yield the files, weakest first."""
        stems = ["application", app]
        stems += [f"application-{profile}" for profile in profiles]
        stems += [f"{app}-{profile}" for profile in profiles]
        same = self._same_names()
        for stem in dict.fromkeys(stems):
            base = f"{label}/{stem}" if label else stem
            for suffix in SUFFIXES:
                file = self._files.get(base + suffix)
                if file is None:
                    continue
                if file.name in same:
                    raise ConfigurationError(
                        subject=file.name, reason=same_name_reason(same[file.name])
                    )
                yield file

    def _has_label(self, label: str) -> bool:
        prefix = f"{label}/"
        return bool(label) and any(name.startswith(prefix) for name in self._files)

    def _same_names(self) -> dict[str, list[str]]:
        return same_names(self._files)


def _checked(app: str, profiles: tuple[str, ...], label: str) -> Request:
    parts = [("application", app), *(("profile", profile) for profile in profiles)]
    parts += [("label", part) for part in label.split("/") if label]
    for kind, text in parts:
        if not _NAME.fullmatch(text):
            raise InvalidInput(
                reason=f"{kind} {text!r} is no name: use letters, digits and . _ - only"
            )
    return app, tuple(dict.fromkeys(profiles)), label


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


__all__ = ["Repository", "ServedFile"]
