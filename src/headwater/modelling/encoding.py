"""From what was decided to what is stored: events with their metadata, and idempotency."""

import contextlib
from collections.abc import Callable, Iterable, Sequence

import msgspec

from headwater.dispatch import CommandMessage
from headwater.errors import (
    ConcurrencyConflict,
    HeadwaterError,
    IdempotencyKeyReused,
    declared_at,
    from_problem,
)
from headwater.eventstore import Appended, EventStore, Idempotency, NewEvent, StreamWrite
from headwater.messages import Codec, Event, Metadata, new_id, now_us
from headwater.messages.codec import encode_metadata
from headwater.messages.sealing import sealed

_encode = msgspec.json.Encoder().encode
_joined = "".join

Admit = Callable[[type[Event]], None]


class Admission:
    """Has each class of events checked once, before the first of them is stored."""

    def __init__(self, admit: Admit | None) -> None:
        """Check with this function, which raises to refuse; None: admit all."""
        self._admit = admit
        self._known: set[type[Event]] = set()

    def check(self, events: Iterable[Event]) -> None:
        """Check the classes of some events.

        Raises:
            DeclarationError: one is refused.
        """
        known = self._known
        for event in events:
            cls = type(event)
            if cls not in known:
                if self._admit is not None:
                    self._admit(cls)
                known.add(cls)


def new_events(events: Iterable[Event], cause: Metadata) -> list[NewEvent]:
    """Return events in stored form; their metadata names the command as their cause.

    Raises:
        Unstorable: an event, or the metadata of the command, would not come back as the same.
    """
    return stored_and_read(events, cause)[0]


def stored_and_read(events: Iterable[Event], cause: Metadata) -> tuple[list[NewEvent], list[Event]]:
    """Return what `new_events` returns, and the events as they are read back from that.

    By these a state is changed, so that it is at once what it will be when it is loaded anew.
    """
    now = now_us()
    conversation = cause.correlation_id or cause.id
    new: list[NewEvent] = []
    read: list[Event] = []
    try:
        # Hooks may have changed it. To see that it is text costs less than to read it back.
        _joined((conversation, cause.id, cause.traceparent, cause.principal, cause.tenant))
        for event in events:
            about = Metadata(
                new_id(),
                conversation,
                cause.id,
                now,
                cause.traceparent,
                cause.principal,
                cause.tenant,
            )
            made, back = NewEvent.and_back(event, _encode(about))
            new.append(made)
            read.append(back)
    except (TypeError, UnicodeEncodeError):
        encode_metadata(cause)
        raise
    return new, read


def sealed_events(codec: Codec | None, new: Sequence[NewEvent], stream: str) -> Sequence[NewEvent]:
    """Return events in the form in which they are stored in a stream."""
    if codec is None:
        return new
    replace = msgspec.structs.replace
    return [replace(one, data=sealed(codec, one.data, stream=stream)) for one in new]


def idempotency_of(message: CommandMessage) -> Idempotency | None:
    """Return the idempotency of an append for a command that came with a key."""
    if not message.idempotency_key:
        return None
    return Idempotency(message.idempotency_key, message.fingerprint)


_NEVER = -1  # a version that no stream is at
_KEPT_BYTES_MAX = 4096  # of a refusal; of a larger one only what it says is kept
_DETAIL_MAX = 500  # characters


async def first_outcome(
    store: EventStore,
    message: CommandMessage,
    stream: str,
    *,
    settled: bool,
    refusal: HeadwaterError | None = None,
) -> Appended | None:
    """Return what the store holds under a command's idempotency key, if anything.

    With ``settled`` after all that was submitted before: as an append to the stream that takes
    its place behind them, and whose key alone is looked at. A ``refusal`` is stored if nothing is.

    Raises:
        HeadwaterError: it holds this refusal.
        IdempotencyKeyReused: it holds the outcome of another command.
    """
    key = message.idempotency_key
    with contextlib.suppress(IdempotencyKeyReused):  # or of this one: a refusal
        if refusal is not None:
            kept = Idempotency(key, _kept(message.fingerprint, refusal))
            await store.append((StreamWrite(stream, ()),), idempotency=kept)
            return None
        if settled:
            nothing = StreamWrite(stream, (), _NEVER)
            try:
                return await store.append((nothing,), idempotency=idempotency_of(message))
            except ConcurrencyConflict:
                return None
    found = await store.outcome(key)
    if found is None:
        return None
    appended, fingerprint = found
    if fingerprint == message.fingerprint:
        return msgspec.structs.replace(appended, duplicate=True)
    refused, _, problem = fingerprint.partition(" ")
    if problem and refused == message.fingerprint:
        refusal_kept = msgspec.json.decode(problem)
        raise from_problem(refusal_kept, place=refusal_kept["class"])
    raise IdempotencyKeyReused(key=key)


def _kept(fingerprint: str, refusal: HeadwaterError) -> str:
    """Return the fingerprint under which a refusal is stored: it says which one it was."""
    problem = {**refusal.to_problem(), "class": declared_at(type(refusal))}
    kept = _encode(problem)
    if len(kept) > _KEPT_BYTES_MAX:
        kept = _encode({**problem, "detail": refusal.message[:_DETAIL_MAX], "fields": None})
    return f"{fingerprint} {kept.decode()}"
