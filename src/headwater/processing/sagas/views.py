"""What sagas keep in the view store, beside the token, in the same transaction."""

from typing import Annotated, ClassVar

import msgspec

from headwater.messages import Metadata
from headwater.messages.hashing import stable_hash
from headwater.processing.handling.dead_letters import LONG_ID_BYTES
from headwater.views import Index, Key, Range, View


class SagaState(View):
    """One saga: its fields, how many commands it has sent, and what began it.

    ``origin`` names the starting event, so that a saga begun anew under the same id does not
    reuse the idempotency keys of the former one.
    """

    id: Annotated[str, Key]
    saga: Annotated[str, Index]
    state: msgspec.Raw
    origin: str
    sent: int = 0


class PendingCommand(View):
    """A command that is to be sent; removed when it is acknowledged or its refusal is handled.

    Ids of one saga are in order of sending. ``cause`` is the metadata of the event (or of what
    was before a deadline) that led to it. ``since`` is when it was decided (seconds since 1970
    UTC); ``error`` says why it is still here, when it was tried ``tries`` times or a few more.
    ``declared`` is its class, with the module, if it may be any that has the wire name.
    """

    index_bytes_max: ClassVar[int] = LONG_ID_BYTES
    id: Annotated[str, Key]
    queue: Annotated[str, Index]
    saga: str
    type: str
    content: str
    idempotency_key: str
    cause: Metadata
    since: float = 0.0
    error: str = ""
    tries: int = 0
    declared: str = ""


class SagaDeadline(View):
    """A deadline that is running.

    ``due`` is in seconds since 1970 UTC by the store's clock; ``queue`` ends with it (see
    `queued`), so that the next ones are found by one look at an index, however many there are.
    """

    index_bytes_max: ClassVar[int] = LONG_ID_BYTES
    id: Annotated[str, Key]
    queue: Annotated[str, Index]
    saga: str
    name: str
    due: float
    cause: Metadata


def queued(queue: str, due: float) -> str:
    """Return where in the queue of a segment a deadline is: in order of time."""
    return f"{queue}|{max(0.0, due):020.6f}"


def deadlines_of(queue: str, *, until: float | None = None) -> Range:
    """Return what selects the deadlines of a segment by `SagaDeadline.queue`."""
    return Range(f"{queue}|", f"{queue}|~" if until is None else queued(queue, until))


def segment_of_saga(saga: str, count: int) -> int:
    """Return the segment that a saga id belongs to."""
    return stable_hash(saga) % count


def saga_queue(processor: str, index: int, count: int) -> str:
    """Return the name under which a segment finds its commands and deadlines."""
    return f"{processor}/{index}/{count}"
