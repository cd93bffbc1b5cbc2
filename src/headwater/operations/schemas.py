"""Releases of event schemas, and whether today's events go with what was released."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from headwater._os.files import write_atomically
from headwater.errors import ConfigurationError, DeclarationError, EventUnreadable
from headwater.messages import Event, message_type
from headwater.messages.codec import EventCodec
from headwater.messages.upcasting import encode_content, lift, sources_of
from headwater.operations.covering import Covering, Schema, resolved, shown
from headwater.operations.event_schemas import event_schemas, own_events
from headwater.operations.made_up import documents
from headwater.service.service import Service

Verdict = Literal["full", "backward", "forward", "broken"]
_ENOUGH: dict[str, tuple[str, ...]] = {
    "backward": ("full", "backward"),
    "forward": ("full", "forward"),
    "full": ("full",),
    "any": ("full", "backward", "forward"),
}


class ReleasedEvent(msgspec.Struct, frozen=True):
    """What was released of one event: its version then, and the schema of each version so far."""

    version: int
    versions: dict[str, dict[str, Any]]


class Release(msgspec.Struct, frozen=True):
    """What was released of a service: its events by wire name."""

    service: str
    events: dict[str, ReleasedEvent] = {}


class Change(msgspec.Struct, frozen=True):
    """What became of one event since the release.

    Attributes:
        event: its wire name in the release; of a new event, today's.
        verdict: ``backward``: this program reads what the released one wrote; ``forward``: the
            released program reads what this one writes; ``full``: both; ``broken``: neither.
        changes: what differs, in words.
        reasons: why it is not ``full``.
        doubts: what could not be tried, because an upcaster does not take made-up contents.
    """

    event: str
    verdict: Verdict
    changes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def enough(self, required: str) -> bool:
        """Whether the verdict is what is required: ``backward``, ``forward``, ``full``, ``any``."""
        return self.verdict in _ENOUGH[required]


def release_of(service: Service, before: Release | None = None) -> Release:
    """Return the schemas of a service's events as they are today.

    Of the release ``before``, events and versions that are gone are kept: they are stored.
    """
    released = dict(before.events) if before else {}
    for event in own_events(service):
        kind = message_type(event)
        known = released.get(kind.name)
        versions = dict(known.versions) if known else {}
        versions[str(kind.version)] = _schema(event)
        released[kind.name] = ReleasedEvent(kind.version, versions)
    return Release(service.name, dict(sorted(released.items())))


def read_release(file: Path) -> Release:
    """Return a release from its file.

    Raises:
        ConfigurationError: there is none, or it is malformed.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=Release)
    except FileNotFoundError:
        reason = "nothing was released yet: run `headwater schemas release`, and commit the file"
        raise ConfigurationError(subject=str(file), reason=reason) from None
    except (msgspec.MsgspecError, RecursionError) as error:
        reason = f"is no release of schemas ({error}): take it from version control again"
        raise ConfigurationError(subject=str(file), reason=reason) from error


def write_release(file: Path, release: Release) -> None:
    """Write a release, in a form whose differences can be read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(msgspec.to_builtins(release), indent=2, ensure_ascii=False, sort_keys=True)
    write_atomically(file, f"{text}\n".encode())


def compare(service: Service, release: Release) -> list[Change]:
    """Return what became of each event, those that are as they were, too.

    Raises:
        ConfigurationError: the release is another service's.
    """
    if release.service != service.name:
        reason = f"is a release of service {release.service!r}, expected {service.name!r}"
        raise ConfigurationError(subject="schemas", reason=reason)
    events = own_events(service)
    return list(compare_events(events, release.events))


def compare_events(
    events: Sequence[type[Event]], released: dict[str, ReleasedEvent]
) -> Iterator[Change]:
    """Yield what became of released events, by the classes of today."""
    known = {name: event for event in events for name in message_type(event).names}
    for name, was in released.items():
        yield _change(name, was, known, events)
    for event in events:
        kind = message_type(event)
        if not any(name in released for name in kind.names):
            yield Change(kind.name, "full", ("new",))


def _change(
    name: str, was: ReleasedEvent, known: dict[str, type[Event]], events: Iterable[type[Event]]
) -> Change:
    event = known.get(name) or _become(name, events)
    if event is None:
        reason = f"no event of the service is called {name!r}: keep it, or name it in aliases="
        return Change(name, "broken", ("removed",), (reason,))
    kind, stored = message_type(event), _Stored(event, events)
    schema = _schema(event)
    behind: list[str] = []
    for version, old in was.versions.items():
        behind += stored.unread(int(version), old, schema)
    ahead: list[str] = []
    last = was.versions[str(was.version)]
    if kind.name != name:
        ahead.append(f"is called {kind.name!r} now, which the released program does not know")
    elif kind.version != was.version:
        ahead.append(f"is at version {kind.version}, the released program knows {was.version}")
    else:
        ahead += Covering(last, schema).faults()
    verdict: Verdict = "broken"
    if not behind:
        verdict = "backward" if ahead else "full"
    elif not ahead:
        verdict = "forward"
    reasons = [f"what was stored: {each}" for each in dict.fromkeys(behind)]
    reasons += [f"a reader that was released: {each}" for each in ahead]
    changes = list(differences(last, schema))
    if kind.version != was.version:
        changes.insert(0, f"version {was.version} → {kind.version}")
    if kind.name != name:
        changes.insert(0, f"called {kind.name}")
    return Change(name, verdict, tuple(changes), tuple(reasons), tuple(stored.doubts))


def _become(name: str, events: Iterable[type[Event]]) -> type[Event] | None:
    """Return the class of a released event that becomes others today, which are known."""
    for event in events:
        for source in sources_of(event):
            if name in message_type(source).names:
                return source
    return None


class _Stored:
    """What was stored of an event that was released, tried with the classes of today."""

    def __init__(self, event: type[Event], events: Iterable[type[Event]]) -> None:
        self._kind = message_type(event)
        self._classes = {event: None, **dict.fromkeys(events)}
        self.doubts: dict[str, None] = {}

    def unread(self, version: int, old: Schema, new: Schema) -> list[str]:
        """Return why what was stored at a version is not read today; empty: it is."""
        current = self._kind.version
        if version > current:
            return [f"released at version {version}, the class is at {current}: raise it"]
        faults = Covering(new, old).faults() if version == current else []
        if faults:
            return faults
        try:
            codec = EventCodec(self._classes)
        except DeclarationError as error:
            return [error.message]
        for document in documents(old):
            fault = self._try(codec, version, msgspec.json.encode(document))
            if fault:
                return [fault]
        return []

    def _try(self, codec: EventCodec, version: int, data: bytes) -> str:
        """Return why a document is not read; a doubt when its upcaster raises."""
        said = f"{data.decode()} of version {version}"
        try:
            lifted = [(k, encode_content(k, c)) for k, c in lift(self._kind, version, data)]
        except EventUnreadable as error:
            if error.__cause__ is None:  # no upcaster raised this
                return error.message
            self.doubts[f"{said}: {error.message}"] = None
            return ""
        try:
            for became, content in lifted:
                if codec.knows(became.name):
                    codec.decode_all(became.name, became.version, content)
        except EventUnreadable as error:
            return f"{said}: {error.message}"
        return ""


def differences(old: Schema, new: Schema) -> Iterator[str]:
    """Yield in words what differs between two schemas, member by member."""
    yield from _differences(resolved(old, old), resolved(new, new), (old, new), "", 0)


def _differences(
    old: Schema, new: Schema, roots: tuple[Schema, Schema], path: str, depth: int
) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for name in dict.fromkeys((*before, *after)):
        at = f"{path}{name}"
        if name not in after:
            yield f"{at}: removed"
        elif name not in before:
            how = "required" if name in new.get("required", ()) else "optional"
            yield f"{at}: added, {how}, {shown(after[name])}"
        else:
            one, other = resolved(before[name], roots[0]), resolved(after[name], roots[1])
            if "properties" in one and "properties" in other and depth < 10:
                yield from _differences(one, other, roots, f"{at}.", depth + 1)
            elif shown(one) != shown(other):
                yield f"{at}: {shown(one)} → {shown(other)}"
            was, now = name in old.get("required", ()), name in new.get("required", ())
            if was != now:
                yield f"{at}: {'required' if now else 'optional'} now"


def _schema(event: type[Event]) -> dict[str, Any]:
    [schema], components = event_schemas([event], template="#/$defs/{name}")
    return {**schema, "$defs": components}


__all__ = [
    "Change",
    "Release",
    "ReleasedEvent",
    "Verdict",
    "compare",
    "compare_events",
    "differences",
    "read_release",
    "release_of",
    "write_release",
]
