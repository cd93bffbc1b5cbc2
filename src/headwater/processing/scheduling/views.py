"""What is due later, as it is stored beside the views."""

from typing import Annotated, ClassVar

from headwater.messages import Metadata
from headwater.processing.handling.dead_letters import LONG_ID_BYTES
from headwater.views import Index, Key, View

NAME = "scheduled-commands"
"""The name of the processor that sends what is due."""

RECURRING = "every:"
"""Begins the ids of what is sent again and again; what follows is the name that it was given."""

KEYED = "key:"
"""Begins the ids that come from idempotency keys."""


class ScheduledCommand(View):
    """A command that is to be sent at a time; or the next tick of one that is sent again and again.

    Attributes:
        id: names it.
        queue: where it is in the order of time (see `queued`).
        due: when, seconds since 1970 UTC by the store's clock.
        type: the wire name of the command; of a tick the name of what recurs.
        content: the stored form of the command; of a tick empty, as it is made when it is due.
        idempotency_key: under which it is sent; of a tick empty, as it is made of name and tick.
        cause: the metadata of the message that led to it.
        rule: of a tick: the declared times, as text.
        alone: of a tick: it was retried by a person, and no other follows it.
        declared: the class of the command, with its module; where several have one wire name.
    """

    index_bytes_max: ClassVar[int] = LONG_ID_BYTES
    id: Annotated[str, Key]
    queue: Annotated[str, Index]
    due: float
    type: str
    content: str
    idempotency_key: str
    cause: Metadata
    rule: str = ""
    alone: bool = False
    declared: str = ""
