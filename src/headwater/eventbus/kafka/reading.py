"""Reading some partitions from given offsets on, in a thread."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from headwater.errors import MalformedMessage
from headwater.eventbus.api import Delivery
from headwater.eventbus.kafka import documents
from headwater.eventbus.kafka.faults import AT_END, CLIENT, GAPS, MISSING, Trouble, unavailable
from headwater.eventbus.kafka.settings import Place

_POLL_S = 0.1  # so long it takes at most until somebody who waits in a thread sees that it is over
_ALL_HEARD_S = 2.0
_AT_ONCE = 1000
_BUFFER_BYTES = 4 << 20

_TUNING: dict[str, Any] = {
    "queued.min.messages": 10_000,
    "queued.max.messages.kbytes": 16 << 10,
    "fetch.message.max.bytes": 1 << 20,
    "fetch.max.bytes": 8 << 20,
    "fetch.queue.backoff.ms": 10,
    "fetch.error.backoff.ms": 50,
}
_GUARANTEES: dict[str, Any] = {
    "auto.offset.reset": "error",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "check.crcs": True,
    "max.poll.interval.ms": 86_400_000,  # for who belongs to a group
}


class LogGap(Exception):  # no error, but something to look into
    """What comes after an offset is not there, or the topic is not."""


class Stopped(Exception):  # as above
    """The reader was stopped."""


def consumer(place: Place, trouble: Trouble, *, from_begin: bool = False) -> Consumer:
    """Return a consumer that reads what it is told to, and belongs to no group.

    Args:
        place: where.
        trouble: hears what is the matter.
        from_begin: an offset that is not there any more stands for the first one that is.
    """
    return Consumer({
        **_TUNING,
        **CLIENT,
        **place.client,
        **_GUARANTEES,
        **({"auto.offset.reset": "earliest"} if from_begin else {}),
        "group.id": place.prefix,  # librdkafka wants one, and nothing is kept under it
        "error_cb": trouble.hear,
    })  # fmt: skip


class Reader:
    """Reads page by page; one thread at a time.

    Attributes:
        after: by partition the last offset that was returned.
    """

    def __init__(self, place: Place, after: Mapping[int, int]) -> None:
        """Nothing is asked for before the first page."""
        self.after = dict(after)
        self._place = place
        self._trouble = Trouble()
        self._turn = threading.Lock()
        self._stopped = False
        self._consumer: Consumer | None = None
        self._heard: set[int] = set()
        self._deadline = 0.0
        self._buffers: dict[int, deque[Message]] = {partition: deque() for partition in after}
        self._buffered = 0
        self._failure: Exception | None = None

    def page(self, size: int, *, wait_s: float) -> Sequence[Delivery]:
        """Return what comes next, when there is something, or nothing after a time.

        Raises:
            EventsForgotten, MalformedMessage, StoreUnavailable: see `EventBus.subscribe`.
            LogGap: what comes next is not there.
            Stopped: see `stop`.
        """
        with self._turn:
            if self._consumer is None and not self._stopped:
                self._consumer = self._assigned()
            until = time.monotonic() + wait_s
            while not self._stopped and self._consumer is not None:
                self._fill(self._consumer, size)
                if self._is_ready():
                    page = self._taken(size)
                    if page:
                        return page
                if self._failure is not None:
                    raise self._failure
                message = self._consumer.poll(_POLL_S)
                if message is not None:
                    self._take_in([message])
                elif self._trouble.away:
                    raise unavailable(self._place.name, self._trouble.last)
                elif time.monotonic() > until:
                    return []
            raise Stopped

    def stop(self) -> None:
        """Let `page` end, soon, by whatever thread it is called."""
        self._stopped = True

    def close(self) -> None:
        """Release everything, when `page` has ended."""
        with self._turn:
            if self._consumer is not None:
                self._consumer.close()
                self._consumer = None

    def _assigned(self) -> Consumer:
        opened = consumer(self._place, self._trouble)
        topic = self._place.events
        opened.assign([TopicPartition(topic, p, n + 1) for p, n in self.after.items()])
        self._deadline = time.monotonic() + _ALL_HEARD_S
        return opened

    def _is_ready(self) -> bool:
        """Whether there is something, and at the begin: of each partition, as far as it has any.

        Otherwise a busy partition could fill some pages before the others are heard of.
        """
        if not any(self._buffers.values()):
            return False
        return len(self._heard) == len(self._buffers) or time.monotonic() > self._deadline

    def _fill(self, opened: Consumer, size: int) -> None:
        """Take in what is there already, within bounds."""
        while self._failure is None and self._buffered < _BUFFER_BYTES:
            if sum(map(len, self._buffers.values())) > max(size, _AT_ONCE):
                return
            found = opened.consume(_AT_ONCE, 0)
            self._take_in(found)
            if len(found) < _AT_ONCE:
                return

    def _take_in(self, messages: Sequence[Message]) -> None:
        for message in messages:
            partition, error = message.partition() or 0, message.error()
            if error is None:
                self._heard.add(partition)
                self._buffers[partition].append(message)
                self._buffered += len(message)
            elif error.code() == AT_END:
                self._heard.add(partition)
            elif error.code() in GAPS or error.code() in MISSING:
                self._failure = LogGap(error.str())
            elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                continue  # it asks for a group that it does not use
            elif not error.retriable():
                self._failure = unavailable(self._place.name, error)
        if messages:
            self._trouble.clear()

    def _taken(self, size: int) -> list[Delivery]:
        """Return a page: a fair share of each partition, those first that came last before."""
        page: list[Delivery] = []
        waiting = [partition for partition, buffer in self._buffers.items() if buffer]
        while waiting and len(page) < size:
            share = max(1, (size - len(page)) // len(waiting))
            for partition in waiting[: size - len(page)]:
                if not self._move(partition, min(share, size - len(page)), page):
                    return page
            waiting = [partition for partition in waiting if self._buffers[partition]]
        for partition in {one.partition: None for one in page}:
            self._buffers[partition] = self._buffers.pop(partition)
        return page

    def _move(self, partition: int, count: int, page: list[Delivery]) -> bool:
        """Move events to a page; whether none of them was malformed: then it comes next."""
        buffer = self._buffers[partition]
        for _ in range(min(count, len(buffer))):
            message = buffer[0]
            try:
                page.append(documents.delivery(message))
            except MalformedMessage as error:
                self._failure = error
                if not page:
                    raise
                return False
            buffer.popleft()
            self._buffered -= len(message)
            self.after[partition] = page[-1].offset
        return True


def messages(
    place: Place,
    topic: str,
    partition: int,
    *,
    first: int,
    following: int | None = None,
    patience_s: float,
) -> Iterator[Message]:
    """Yield the messages of a partition from an offset on, up to another or its end.

    Raises:
        StoreUnavailable: nothing comes any more, though there should be some.
    """
    trouble = Trouble()
    reading = consumer(place, trouble, from_begin=True)
    deadline = time.monotonic() + patience_s
    try:
        reading.assign([TopicPartition(topic, partition, first)])
        while True:
            for message in reading.consume(1, _POLL_S) + reading.consume(_AT_ONCE, 0):
                error = message.error()
                if error is None:
                    offset = message.offset() or 0
                    if following is None or offset < following:
                        yield message
                    if following is not None and offset >= following - 1:
                        return
                    deadline = time.monotonic() + patience_s
                elif error.code() == AT_END:
                    return
                elif error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
                    raise unavailable(place.name, error)
            if trouble.away or time.monotonic() > deadline:
                raise unavailable(place.name, trouble.named(f"{topic} cannot be read in time"))
    finally:
        reading.close()


__all__ = ["LogGap", "Reader", "Stopped", "consumer", "messages"]
