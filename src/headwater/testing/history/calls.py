"""What a history consists of: calls, each with what was asked, when, and what was answered.

Times are nanoseconds of one monotonic clock. Of an event a history keeps a digest, not its content;
so a call takes some hundred bytes, and a history can be kept where contents must not be.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import msgspec

from headwater.errors import HeadwaterError, Rejection, ViewNotFound
from headwater.errors.base import REGISTRY
from headwater.eventstore import AppendCondition, EventFilter, NewEvent, StoredEvent

# Below, ``gc=False``: none of these can be part of a cycle, so the collector need not look at them.


NEVER = 2**62
"""Nanoseconds: after everything."""


class Write(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Events for one stream, as digests; see `headwater.eventstore.StreamWrite`."""

    stream: str
    events: tuple[int, ...]
    expected: int | None = None


class Append(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="append"):
    """An append to an event store. ``pipeline`` is 0 for none, else the same for the same one."""

    writes: tuple[Write, ...]
    key: str = ""
    fingerprint: str = ""
    condition: AppendCondition | None = None
    pipeline: int = 0


class Send(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="send"):
    """A command: its wire name and JSON content, and the stream of its aggregate.

    ``conversation`` is the correlation id of the events that it leads to. ``stream`` is empty when
    it is not known; then events of any stream may be the command's.
    """

    stream: str
    name: str
    content: msgspec.Raw
    conversation: str
    key: str = ""
    expected_version: int | None = None


class Ask(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="ask"):
    """A query: its wire name, JSON content, and what its token asks for: a position of a shard."""

    name: str
    content: msgspec.Raw
    position: int = 0
    shard: int = 0


class Read(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="read"):
    """A read of the log, or of one stream (then numbers are versions)."""

    stream: str | None = None
    filter: EventFilter | None = None
    after: int = 0
    until: int | None = None
    backwards: bool = False
    limit: int | None = None
    live: bool = False


class Head(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="head"):
    """The question for the position of the last event."""


class Version(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="version"):
    """The question for the version of a stream."""

    stream: str


class Lookup(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="lookup"):
    """The question for the outcome of an idempotency key."""

    key: str


class Stored(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="stored"):
    """An append was acknowledged; see `headwater.eventstore.Appended`."""

    first: int
    last: int
    time: int
    versions: tuple[int, ...]
    duplicate: bool = False


class Done(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="done"):
    """A command was acknowledged: the stream's version, and the position of its token."""

    version: int
    position: int
    duplicate: bool = False


class Refused(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="refused"):
    """The answer was an error. ``outcome`` says what became of the call.

    ``rejection`` tells that the domain said no, which can be judged by the rules of the domain.
    """

    code: str
    outcome: str
    fields: dict[str, Any] = {}
    rejection: bool = False


class Pages(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="pages"):
    """What a read delivered, and whether it came to its end by itself.

    ``digest`` is over the events with all that is stored of them, see `combined`.
    """

    positions: tuple[int, ...]
    digest: int
    through: int
    complete: bool


class Number(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="number"):
    """A position or a version."""

    value: int


class Found(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="found"):
    """The outcome stored under a key, or None."""

    outcome: Stored | None


class Answer(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="answer"):
    """The answer to a query, as JSON with sorted keys."""

    content: msgspec.Raw


Request = Append | Send | Ask | Read | Head | Version | Lookup
Outcome = Stored | Done | Refused | Pages | Number | Found | Answer


class Call(msgspec.Struct, gc=False):
    """One call: asked at ``begin``, answered at ``end``.

    Attributes:
        number: counts the calls of its process, from 1.
        process: who recorded it.
        session: whose call it is; the calls of a session are made one after the other.
        source: which store or service was asked; empty where there is only one.
        shard: which log of a sharded store was asked.
        request: what was asked.
        begin: just before it was asked.
        end: just after it was answered or given up; None when neither happened.
        outcome: what was answered; None when nothing was.
    """

    number: int
    process: str
    session: str
    source: str
    shard: int
    request: Request
    begin: int
    end: int | None = None
    outcome: Outcome | None = None

    def __str__(self) -> str:
        """Return who asked what."""
        who = f"{self.session or self.process}#{self.number}"
        return f"{who} {_asked(self.request)}"

    @property
    def until(self) -> int:
        """The latest moment at which it may have been carried out, as far as it was answered."""
        return NEVER if self.end is None else self.end

    @property
    def is_open(self) -> bool:
        """Whether it is unknown what became of it."""
        outcome = self.outcome
        return outcome is None or (isinstance(outcome, Refused) and outcome.outcome == "unknown")


def _asked(request: Request) -> str:
    match request:
        case Append():
            what = ", ".join(f"{len(w.events)} to {w.stream!r}" for w in request.writes[:3])
            shown = f"append({what or 'nothing'}{_key(request.key)})"
        case Send():
            shown = f"{request.name}({request.stream or '?'}{_key(request.key)})"
        case Ask():
            shown = f"{request.name}({bytes(request.content).decode()[:80]})"
        case Read():
            shown = "read" if request.stream is None else f"read_stream({request.stream!r})"
        case Version():
            shown = f"version({request.stream!r})"
        case Lookup():
            shown = f"outcome({request.key!r})"
        case Head():
            shown = "head"
    return shown


def _key(key: str) -> str:
    return f", key {key!r}" if key else ""


def digest_of(event: NewEvent | StoredEvent) -> int:
    """Return 64 bits of BLAKE2b over what an append says of an event."""
    try:
        named = "\0".join((event.type, str(event.type_version), *event.tags))
        head = named.encode(errors="surrogatepass")
        content = b"%d %d %b%b" % (len(head), len(event.data), head, event.data) + event.metadata
    except (TypeError, AttributeError):
        return 0  # no event: the store refuses it
    return int.from_bytes(blake2b(content, digest_size=8).digest())


def combined(events: Iterable[tuple[int, int, int, int, str]]) -> int:
    """Return 64 bits over events: position, version, time, digest and stream of each."""
    whole = blake2b(digest_size=8)
    for position, version, time, digest, stream in events:
        line = f"{position} {version} {time} {digest} {stream}\n"
        whole.update(line.encode(errors="surrogatepass"))
    return int.from_bytes(whole.digest())


_JSON = msgspec.json.Encoder(order="sorted", enc_hook=str)


def canonical(value: Any) -> msgspec.Raw:
    """Return a value as JSON with sorted keys."""
    return msgspec.Raw(_JSON.encode(value))


def refused(error: HeadwaterError) -> Refused:
    """Return an error as an outcome."""
    fields = msgspec.to_builtins(error.fields(), str_keys=True, enc_hook=str)
    return Refused(error.code, error.outcome, fields, isinstance(error, Rejection))


def refused_by(problem: dict[str, Any], status: int) -> Refused:
    """Return a problem document (RFC 9457) as an outcome; who is not ours knows nothing."""
    code, outcome, fields = (problem.get(name) for name in ("code", "outcome", "fields"))
    if not isinstance(code, str) or outcome not in ("stored", "not stored", "unknown"):
        return Refused(str(code or status), "unknown" if status >= 500 else "not stored")
    ours = [cls for cls in REGISTRY.get(code, ()) if cls.__module__.startswith("headwater.errors.")]
    domain = status < 500 and not (ours and not issubclass(ours[0], Rejection))
    return Refused(code, outcome, fields if isinstance(fields, dict) else {}, domain)


NOTHING = Answer(canonical(None))
"""The answer of a query that found nothing."""

NOT_FOUND = ViewNotFound.code
