"""Publishing: one producer, used by one thread, all of whose records are confirmed or none counts.

A partition must not get an event before an earlier one of the same source: subscribers would take
the earlier one for a repetition when it comes. So no request is on its way to a broker while
another one is, none is given up alone (a record has no time-out, and a batch that cannot be
stored ends the producer), and after any failure everything that still waits is dropped together
with the producer. What is late then was published before, or is published again.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from headwater.eventbus.kafka.faults import CLIENT, TIMED_OUT, Trouble, error_of, unavailable
from headwater.eventbus.kafka.settings import Place

_GUARANTEES: dict[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,
    "enable.gapless.guarantee": True,
    "max.in.flight.requests.per.connection": 1,
    "message.timeout.ms": 0,
    "linger.ms": 1000,  # they go when all are there, as `flush` does not linger, or a batch is full
    "delivery.report.only.error": True,
}


class _Quiet:
    """Hears what would be written to the standard error: all of it comes as errors, too."""

    def log(self, *_: object) -> None:
        """Take a line in."""


class Record(NamedTuple):
    """What is to be stored in a topic."""

    topic: str
    partition: int
    key: bytes
    value: str | bytes | None
    headers: list[tuple[str, str | bytes | None]]


class Publisher:
    """Stores records, and returns when they are confirmed; for one thread."""

    def __init__(self, place: Place, *, bytes_max: int, patience_s: float) -> None:
        """Connect when there is something to store."""
        self._place = place
        self._bytes_max = bytes_max
        self._patience_s = patience_s
        self._producer: Producer | None = None
        self._trouble = Trouble()
        self._has_confirmed = False

    def set_bytes_max(self, bytes_max: int) -> None:
        """Take larger records, or only smaller ones, from now on."""
        if bytes_max != self._bytes_max:
            self._bytes_max = bytes_max
            self.close()

    def send(self, records: Sequence[Record]) -> None:
        """Store records in their order within each partition.

        Raises:
            StoreUnavailable: they are not all confirmed; any prefix may have been stored.
        """
        failures: list[KafkaError] = []

        def failed(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failures.append(error)

        try:
            if self._producer is None:
                self._producer = self._connected()
            self._produce(self._producer, records, failed)
            left = self._producer.flush(self._patience_s)
        except KafkaException as error:
            failures.insert(0, error_of(error))
            left = 0
        except BaseException:
            self.close()
            raise
        cut = not (left or failures) and self._has_confirmed and bool(self._trouble.last)
        if left or failures or cut:
            self.close()
            late = f"it has not confirmed within {self._patience_s:g} s"
            reason = failures[0].str() if failures else "the connection was lost" if cut else late
            raise unavailable(self._place.name, self._trouble.named(reason), outcome="unknown")
        self._trouble.clear()  # at first it may take some attempts to find a broker
        self._has_confirmed = True

    def was_cut(self) -> bool:
        """Whether a connection broke since something was confirmed; if so, all begins anew.

        Who was there then may not have it any more.
        """
        if self._producer is not None and self._has_confirmed:
            self._producer.poll(0)
            if self._trouble.last:
                self.close()
                return True
        return False

    def close(self) -> None:
        """Drop what was not confirmed. Twice is fine."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            with contextlib.suppress(KafkaException):  # as it can keep no promise any more
                producer.flush(0)  # serves what it reports about that

    def _produce(self, producer: Producer, records: Sequence[Record], failed: Any) -> None:
        produce = producer.produce
        for topic, partition, key, value, headers in records:
            try:
                produce(topic, value, key, partition, failed, headers=headers)
            except BufferError:  # more than it holds at once: those before go first
                if producer.flush(self._patience_s):
                    raise KafkaException(KafkaError(TIMED_OUT)) from None
                produce(topic, value, key, partition, failed, headers=headers)

    def _connected(self) -> Producer:
        self._trouble.clear()
        self._has_confirmed = False
        return Producer({
            **CLIENT,
            **self._place.client,
            **_GUARANTEES,
            "message.max.bytes": self._bytes_max,
            "error_cb": self._trouble.hear,
            "logger": _Quiet(),
        })  # fmt: skip


__all__ = ["Publisher", "Record"]
