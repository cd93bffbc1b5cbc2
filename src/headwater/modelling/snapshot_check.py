"""Comparing stored snapshots with what the events lead to, as the handlers are today."""

from collections.abc import AsyncIterator
from typing import Any, Literal

import msgspec

from headwater.errors import HeadwaterError
from headwater.eventstore import Snapshot, StreamStore
from headwater.messages import Codec
from headwater.messages.sealing import opened, opened_events
from headwater.modelling.state import Aggregate, StateType, aggregate_type, split_stream

Verdict = Literal["same", "different", "ignored", "unreadable"]


class CheckedSnapshot(msgspec.Struct, frozen=True):
    """A snapshot, and what came of comparing it.

    Attributes:
        stream: whose it is.
        version: of that.
        verdict: ``same`` as the events lead to; ``different``; ``ignored``, since it is of another
            revision or shape; ``unreadable``, so that it is ignored, too.
        reason: what is different, or why it is unreadable.
    """

    stream: str
    version: int
    verdict: Verdict
    reason: str = ""


async def check_snapshots(
    cls: type[Aggregate], store: StreamStore, *, prefix: str = "", codec: Codec | None = None
) -> AsyncIterator[CheckedSnapshot]:
    """Compare the snapshots of an aggregate class, each with a replay of all events before it.

    Args:
        cls: the class.
        store: where its events and snapshots are; it may be in use.
        codec: that of the service.
        prefix: only of streams whose names begin like this; empty: of all that the class has.

    Raises:
        StoreUnavailable: the store is away.
    """
    kind = aggregate_type(cls)
    async for page in store.read_snapshots(prefix or kind.stream("")):
        for snapshot in page:
            verdict, reason = await _compare(kind, store, snapshot, codec)
            yield CheckedSnapshot(snapshot.stream, snapshot.version, verdict, reason)


async def _compare(
    kind: StateType, store: StreamStore, snapshot: Snapshot, codec: Codec | None
) -> tuple[Verdict, str]:
    if kind.form is None or snapshot.fingerprint != kind.fingerprint:
        return "ignored", ""
    try:
        stored = kind.form.decode(opened(codec, snapshot.data, stream=snapshot.stream))
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what the service meets, too
        return "unreadable", str(error)
    state: Any = kind.cls(id=split_stream(snapshot.stream)[1])
    version = 0
    try:
        async for page in store.read_stream(snapshot.stream, until=snapshot.version):
            kind.replay(state, opened_events(codec, page.events))
            version = page.events[-1].version if page.events else version
    except HeadwaterError:
        raise
    except Exception as error:  # noqa: BLE001  # a handler's
        return "different", f"replaying the events fails: {type(error).__name__}: {error}"
    if version < snapshot.version:
        return "different", f"the stream has {version} events"
    difference = kind.form.difference(stored, state)
    if difference is None:
        return "same", ""
    field, before, after = difference
    return "different", f"{field} is {before}, the events lead to {after}"
