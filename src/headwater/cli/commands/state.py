"""``headwater state``: an aggregate or a view as it is, or as it was."""

import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import msgspec

from headwater.cli.logs import run_quietly
from headwater.cli.times import parse_time, show_time
from headwater.errors import ConfigurationError
from headwater.operations.state import (
    AggregateState,
    Point,
    Subject,
    ViewState,
    find_subject,
    state_at,
)
from headwater.operations.stores import DEFAULT_FILE, settings_of, urls_of
from headwater.operations.system import load_system


def state(
    stream: str,
    *,
    at_version: int | None = None,
    at_position: int | None = None,
    at_time: str | None = None,
    service: str = "",
    store: str = "",
    file: Path = DEFAULT_FILE,
) -> None:
    """Show an aggregate or a view as JSON, by replay: now, or at any point of its past.

    Parameters
    ----------
    stream
        Which one: Aggregate/id, for example Account/7, or View/key, for example AccountView/7.
    at_version
        After so many of its events (of an aggregate).
    at_position
        As it was when the store's last event had this position (sharded: that of its shard).
    at_time
        As it was at this time (ISO 8601; without a zone: UTC).
    service
        The service that owns it, if several have one of this name.
    store
        URL of a store, or path of a file, instead of the system's.
    file
        The description of the system.
    """
    point = _point(at_version, at_position, at_time)
    name, _, id = stream.partition("/")
    if not name or not id:
        raise ConfigurationError(
            subject=stream, reason="expected Aggregate/id, for example Account/7"
        )
    system = load_system(file)
    subject = find_subject(system, name, service)
    urls = urls_of(store) if store else settings_of(system, subject.service).stores
    run_quietly(_show(urls, subject, id, point))


def _point(version: int | None, position: int | None, time: str | None) -> Point:
    points = {"--at-version": version, "--at-position": position, "--at-time": time}
    given = [name for name, value in points.items() if value is not None]
    if len(given) > 1:
        raise ConfigurationError(subject=" and ".join(given), reason="give only one of them")
    for option, number in (("--at-version", version), ("--at-position", position)):
        if number is not None and number < 1:
            raise ConfigurationError(subject=f"{option} {number}", reason="expected 1 or more")
    time_us = parse_time(time, option="--at-time") if time is not None else None
    return Point(version, position, time_us)


async def _show(urls: Sequence[str], subject: Subject, id: str, point: Point) -> None:
    found = await state_at(urls, subject, id, point)
    text = msgspec.json.format(_encoded(_content(found)), indent=2).decode()
    sys.stdout.write(f"{text}\n")


def _content(found: AggregateState | ViewState) -> dict[str, Any]:
    if isinstance(found, ViewState):
        content = {"view": found.name, "key": found.key, "position": found.position}
        return {**content, "state": found.state}
    return {
        "aggregate": found.name,
        "id": found.id,
        "version": found.version,
        **({} if found.shard is None else {"shard": found.shard}),
        "position": found.position,
        "time": show_time(found.time),
        "state": found.state,
    }


def _encoded(content: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(content)
    except (TypeError, ValueError):  # a state that is never stored need not have a form in JSON
        return msgspec.json.encode(_readable(content))


def _readable(value: Any) -> Any:
    """Return a value with what JSON does not have written as Python does."""
    if isinstance(value, msgspec.Struct):
        return {name: _readable(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {_text(key): _readable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | AbstractSet):
        return [_readable(item) for item in value]
    return value if value is None or type(value) in {bool, int, float} else _text(value)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text.encode(errors="backslashreplace").decode()
