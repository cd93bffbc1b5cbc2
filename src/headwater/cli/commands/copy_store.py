"""``headwater copy-store``: one event store into another, or a comparison of the two."""

import asyncio
import sys
import time
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from headwater.cli.logs import run_quietly
from headwater.cli.progress import progress_bar
from headwater.errors import ConfigurationError, StoresDiffer
from headwater.operations.copy import compare, copy, store_name
from headwater.operations.stores import urls_of
from headwater.service.engines import EVENT_STORES

_CUT_OVER = (
    "to cut over: stop whoever writes to the source, run the command once more, "
    "compare with --check, then switch the URL"
)


def copy_store(
    *,
    from_: Annotated[str, Parameter(name="--from")],
    to: str,
    check: bool = False,
    json: bool = False,
) -> None:
    """Copy an event store into another one, for example from SQLite to PostgreSQL.

    Events keep their positions, versions, times and contents; idempotency keys and the epoch
    come along, so that consistency tokens stay valid. Snapshots do not: they are a cache. The
    source may be in use. Interrupted and started again, it goes on where it was.

    Parameters
    ----------
    from_
        URL of the store to read: sqlite:PATH or postgresql://...?schema=NAME.
    to
        URL of the store to write; made if missing. It must be empty, or a beginning of the source.
    check
        Copy nothing; compare both stores completely and report the first difference.
    json
        One JSON object instead of text.
    """
    source, target = _url(from_, "--from"), _url(to, "--to")
    if store_name(source) == store_name(target):
        raise ConfigurationError(
            subject=f"--to {store_name(target)}", reason="is the same as --from"
        )
    work = _check if check else _copy
    run_quietly(work(source, target, json=json))


def _url(text: str, option: str) -> str:
    [url] = urls_of(text)
    if not EVENT_STORES.of(url).shared:
        reason = "a store in memory ends with its process: name a file or a database"
        raise ConfigurationError(subject=f"{option} {text!r}", reason=reason)
    return url


async def _copy(source: str, target: str, *, json: bool) -> None:
    began = time.monotonic()
    with progress_bar("copying") as progress:
        try:
            done = await copy(source, target, progress=progress)
        except asyncio.CancelledError:
            sys.stderr.write("interrupted: the same command goes on where this one ended\n")
            raise
    seconds = time.monotonic() - began
    copied = done.copied
    events = copied.position - copied.began
    if json:
        _show_json(
            source=store_name(source),
            target=store_name(target),
            epoch=done.epoch,
            began=copied.began,
            position=copied.position,
            events=events,
            keys=copied.keys,
            left=done.left,
            seconds=round(seconds, 3),
        )
        return
    rate = f", {events / seconds:,.0f} events/s" if events else ""
    sys.stdout.write(
        f"copied {events:,} events and {copied.keys:,} idempotency keys in {seconds:.1f} s{rate}\n"
        "snapshots are left out: they are a cache, and are taken anew\n"
        f"{store_name(target)} is at position {copied.position:,}; "
        f"the source has {done.left:,} more by now\n{_CUT_OVER}\n"
    )


async def _check(source: str, target: str, *, json: bool) -> None:
    with progress_bar("comparing") as progress:
        found = await compare(source, target, progress=progress)
    if json:
        names = {"source": store_name(source), "target": store_name(target)}
        _show_json(**names, equal=not found.difference, **msgspec.structs.asdict(found))
    if found.difference:
        raise StoresDiffer(difference=found.difference)
    if not json:
        sys.stdout.write(
            f"equal: {found.events:,} events at positions 1 to {found.events:,}, "
            f"{found.keys:,} idempotency keys\ndigest {found.digest}\n"
        )


def _show_json(**content: Any) -> None:
    sys.stdout.write(f"{msgspec.json.encode(content).decode()}\n")
    sys.stdout.flush()
