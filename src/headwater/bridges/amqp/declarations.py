"""What a service says about exchanges and queues. The client is imported when it runs."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Literal

import msgspec

from headwater.bridges.api import Bridge, Parts
from headwater.errors import DeclarationError
from headwater.messages import Event, message_type

_NAME_BYTES_MAX = 255  # of a short string, AMQP 0-9-1, 4.2.5.3
_PREFETCH_MAX = 65_535
_WINDOW_S = 604_800.0
_LISTENER = "headwater.bridges.amqp.listener"  # what runs imports this, and the client
_PUBLISHER = "headwater.bridges.amqp.publisher"


class AmqpQueue(msgspec.Struct, frozen=True):
    """A queue of RabbitMQ, classic or quorum, as the ``source`` of handlers or a projection.

    A message is acknowledged when what its handlers did is committed, together with its identity:
    delivered again within ``known_s`` it has no second effect. What cannot be read, what a handler
    refuses, and what fails as often as `Retry` allows, goes to the exchange ``dead_letters`` with
    its reason in the headers ``x-headwater-error`` and ``x-headwater-code``. The setting ``amqp``
    names the broker.

    Attributes:
        queue: its name; the queue is there already.
        dead_letters: the exchange for what is never handled; it is there already, with a queue
            bound to it.
        plain: for messages that are no CloudEvents but JSON alone: by what they are called, the
            class of event that they are.
        called_by: what calls a plain message so: its property ``type``, or its routing key.
        unhandled: what becomes of an event that no handler takes.
        prefetch: how many messages at most are here and not acknowledged.
        known_s: how long a message that was handled is known by its source and id, seconds.
    """

    queue: str
    dead_letters: str
    plain: Mapping[str, type[Event]] = {}
    called_by: Literal["type", "routing_key"] = "type"
    unhandled: Literal["dead-letter", "skip"] = "dead-letter"
    prefetch: int = 100
    known_s: float = _WINDOW_S

    def __post_init__(self) -> None:
        """Check the declaration.

        Raises:
            DeclarationError: a name cannot be one, or a value is out of range.
        """
        subject = f"AmqpQueue({self.queue!r})"
        check_name(subject, "queue", self.queue)
        check_name(subject, "dead_letters", self.dead_letters)
        reason = ""
        if self.called_by not in ("type", "routing_key"):
            reason = f'called_by must be "type" or "routing_key", got {self.called_by!r}'
        elif self.unhandled not in ("dead-letter", "skip"):
            reason = f'unhandled must be "dead-letter" or "skip", got {self.unhandled!r}'
        elif not 1 <= self.prefetch <= _PREFETCH_MAX:
            reason = f"prefetch must be 1 to {_PREFETCH_MAX}, got {self.prefetch}"
        elif not self.known_s > 0:
            reason = f"known_s must be above 0 seconds, got {self.known_s}"
        if reason:
            raise DeclarationError(subject=subject, reason=reason)
        for event in self.plain.values():
            message_type(event)

    @property
    def place(self) -> str:
        """What it is called: the name of the queue."""
        return self.queue

    def listener(self, handlers: Any, parts: Parts) -> Bridge:
        """See `QueueOfOthers.listener`."""
        running: Bridge = import_module(_LISTENER).AmqpListener(handlers, queue=self, parts=parts)
        return running


class AmqpPublisher:
    """Publishes events of a service to an exchange of RabbitMQ, besides the event bus if any.

    At least once: receivers know a repetition by the message's id, which is the event's. Events of
    one stream come in their order. The body is the CloudEvents document that is on the event bus
    (``application/cloudevents+json``), the routing key ``<service>.<event>``. The setting ``amqp``
    names the broker.

    Attributes:
        exchange: where they go; made as a durable topic exchange if there is none.
        events: the wire names of those that go; None: all.
        start: where it begins when it is first started.
        mandatory: whether an event that no queue is bound for is held until one is.
        name: under which its progress is kept.
    """

    def __init__(
        self,
        exchange: str,
        *,
        events: Sequence[type[Event]] | None = None,
        start: Literal["beginning", "now"] = "beginning",
        mandatory: bool = False,
    ) -> None:
        """Declare.

        Args:
            exchange: see above.
            events: the classes of events that go; None: all events of the service.
            start: ``"beginning"``: with all that is stored; or ``"now"``.
            mandatory: see above. Without, an event that no queue wants is gone.

        Raises:
            DeclarationError: the name cannot be one, or there is no such start.
        """
        subject = f"AmqpPublisher({exchange!r})"
        check_name(subject, "exchange", exchange)
        if start not in ("beginning", "now"):
            reason = f'start must be "beginning" or "now", got {start!r}'
            raise DeclarationError(subject=subject, reason=reason)
        if events is not None and not events:
            reason = "events names none: leave it out for all events of the service"
            raise DeclarationError(subject=subject, reason=reason)
        self.exchange = exchange
        self.events: frozenset[str] | None = (
            None if events is None else frozenset(n for e in events for n in message_type(e).names)
        )
        self.start: Literal["beginning", "now"] = start
        self.mandatory = mandatory
        self.name = f"amqp-{exchange}"

    def __repr__(self) -> str:
        return f"AmqpPublisher({self.exchange!r})"

    def publishers(self, parts: Parts) -> Sequence[Bridge]:
        """See `Publishing.publishers`."""
        running: Sequence[Bridge] = import_module(_PUBLISHER).publishers_of(self, parts)
        return running


def check_name(subject: str, what: str, name: str) -> None:
    """Check that a text can name a queue or an exchange.

    Raises:
        DeclarationError: it cannot.
    """
    if not name or len(name.encode()) > _NAME_BYTES_MAX:
        reason = f"{what} must be a name of 1 to {_NAME_BYTES_MAX} bytes, got {name[:50]!r}"
        raise DeclarationError(subject=subject, reason=reason)


__all__ = ["AmqpPublisher", "AmqpQueue", "check_name"]
