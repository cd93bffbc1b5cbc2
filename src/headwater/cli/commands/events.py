"""``headwater events``: what is stored, and what is being stored."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from headwater.cli.logs import run_quietly
from headwater.cli.times import show_time
from headwater.errors import ConfigurationError
from headwater.eventbus import BusEvent
from headwater.eventstore import EVERYTHING, EventFilter, FilterItem, StoredEvent
from headwater.messages.sealing import as_json
from headwater.operations.events import LoggedEvent, Selection, open_events
from headwater.operations.stores import DEFAULT_FILE, load_stores
from headwater.processing.sources.tokens import log_name, service_of

_LAST = 20
_encode = msgspec.json.Encoder().encode


def events(
    *,
    service: str = "",
    follow: Annotated[bool, Parameter(name=["--follow", "-f"])] = False,
    stream: str = "",
    type: list[str] | None = None,
    tag: list[str] | None = None,
    after: int | None = None,
    limit: int | None = None,
    json: bool = False,
    store: str = "",
    file: Path = DEFAULT_FILE,
) -> None:
    """Show stored events, the newest last.

    Without --after the last ones are shown (--limit, default 20).

    Parameters
    ----------
    service
        Only of this service; default: of all services that store events.
    follow
        Go on with what is being stored, until Ctrl-C.
    stream
        Only of one stream, for example Account/7.
    type
        Only of these types; repeatable.
    tag
        Only with all of these tags, for example email:a@b.example; repeatable.
    after
        From the event after this position (of the stream: after this version).
    limit
        At most so many.
    json
        One JSON object per line, with metadata.
    store
        URL of a store, or path of a file, instead of the system's.
    file
        The description of the system.
    """
    stores = load_stores(file, service, store)
    item = FilterItem(types=tuple(type or ()), tags=tuple(tag or ()))
    selection = _selection(stream, item, after, limit, stores)
    names = [log_name(name, n) for name, urls in stores.items() for n in range(len(urls))]
    width = max(map(len, names)) if len(names) > 1 else 0
    show = _show_json if json else _line_printer(width)
    run_quietly(_events(stores, selection, show, follow=follow))


def _selection(
    stream: str,
    item: FilterItem,
    after: int | None,
    limit: int | None,
    stores: Mapping[str, Sequence[str]],
) -> Selection:
    for option, number in (("--after", after), ("--limit", limit)):
        if number is not None and number < 0:
            raise ConfigurationError(subject=f"{option} {number}", reason="expected 0 or more")
    if after is not None and len(stores) > 1:
        known = ", ".join(stores)
        raise ConfigurationError(
            subject="--after",
            reason=f"positions are counted per service: add --service, one of {known}",
        )
    shards = max(map(len, stores.values()))
    if after is not None and not stream and shards > 1:
        raise ConfigurationError(
            subject="--after",
            reason=f"positions are counted per database, and the store is spread over {shards}: "
            "add --stream, or --store with the URL of one",
        )
    return Selection(
        stream=stream,
        filter=EventFilter((item,)) if item.types or item.tags else EVERYTHING,
        after=after,
        limit=_LAST if limit is None and after is None else limit,
    )


Show = Callable[[LoggedEvent], None]


async def _events(
    stores: dict[str, tuple[str, ...]], selection: Selection, show: Show, *, follow: bool
) -> None:
    async with open_events(stores, stream=selection.stream) as logs:
        async for found in logs.stored(selection):
            show(found)
        sys.stdout.flush()
        if follow:
            async with asyncio.TaskGroup() as group:
                for coming in logs.coming(selection):
                    group.create_task(_follow(coming, show))


async def _follow(coming: AsyncIterator[list[LoggedEvent]], show: Show) -> None:
    async for found in coming:
        for event in found:
            show(event)
        sys.stdout.flush()


def _line_printer(width: int) -> Show:
    colored = sys.stdout.isatty()

    def paint(text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if colored else text

    def show(found: LoggedEvent) -> None:
        name, event = found.log, found.event
        prefix = f"{name:<{width}}  " if width else ""
        tags = f"  {' '.join(event.tags)}" if event.tags else ""
        data = as_json(event.data).decode()
        sys.stdout.write(
            f"{paint(prefix, 36)}{event.position:>8}  {show_time(event.time)}  "
            f"{event.stream}@{event.version}  {paint(event.type, 1)}  {data}"
            f"{paint(tags, 2)}\n"
        )

    return show


def _show_json(found: LoggedEvent) -> None:
    event = found.event
    content: dict[str, Any] = {
        "service": service_of(found.log),
        "log": found.log,
        **fields_of(event),
    }
    sys.stdout.write(f"{_encode(content).decode()}\n")


def fields_of(event: StoredEvent | BusEvent) -> dict[str, Any]:
    """Return what is shown of an event as JSON, wherever it was read."""
    return {
        "position": event.position,
        "time": show_time(event.time),
        "stream": event.stream,
        "version": event.version,
        "type": event.type,
        "type_version": event.type_version,
        "tags": event.tags,
        "data": msgspec.Raw(as_json(event.data)),
        "metadata": msgspec.Raw(event.metadata),
    }
