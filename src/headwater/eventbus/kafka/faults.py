"""From errors of librdkafka to those of Headwater."""
# ruff: noqa: SLF001  # librdkafka's own codes begin with an underscore

from typing import Any

from confluent_kafka import KafkaError

from headwater.errors import StoreUnavailable
from headwater.errors.base import Outcome


def error_of(error: BaseException) -> KafkaError:
    """Return what an exception of the client says."""
    found = error.args[0] if error.args else None
    return found if isinstance(found, KafkaError) else KafkaError(KafkaError._FAIL, str(error))


def unavailable(
    name: str, error: KafkaError | BaseException | str, *, outcome: Outcome = "not stored"
) -> StoreUnavailable:
    """Return the error for those who use the bus.

    Args:
        name: what the bus is called.
        error: what the client says, or why.
        outcome: what became of what was asked for.
    """
    if isinstance(error, BaseException):
        error = error_of(error)
    reason = error if isinstance(error, str) else f"{error.str()} ({error.name()})"
    return StoreUnavailable(store=name, reason=reason, outcome=outcome)


class Trouble:
    """Remembers what a client last complained about, for messages: its errors come without causes.

    Its `hear` is an ``error_cb``.

    Attributes:
        last: the last complaint.
        away: whether it is that nobody can be reached.
        refused: what was said to whoever was not let in.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self.last = ""
        self.away = False
        self.refused = ""

    def hear(self, error: KafkaError) -> None:
        """Take an error in."""
        self.last = error.str()
        self.away = error.code() in _AWAY or error.fatal()
        if error.code() in _REFUSED:
            self.refused = error.str()

    def clear(self) -> None:
        """Forget it, as the client works."""
        self.last, self.away, self.refused = "", False, ""

    def named(self, reason: str) -> str:
        """Return a reason, with what the client complained about."""
        return f"{reason}: {self.last}" if self.last else reason


_AWAY = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION})
_REFUSED = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL})

AT_END = KafkaError._PARTITION_EOF
TIMED_OUT = KafkaError._TIMED_OUT
MISSING = frozenset({
    KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_ID, KafkaError.INCONSISTENT_TOPIC_ID,
})  # fmt: skip
"""There is no such topic."""

GAPS = frozenset({
    KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE,
})  # fmt: skip
"""There is no such offset."""

CLIENT: dict[str, Any] = {
    "log_level": 0,  # it would write to the standard error; what matters comes as errors
    "allow.auto.create.topics": False,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1000,
    "socket.nagle.disable": True,
}
"""Settings of all clients that a URL may change."""

__all__ = ["AT_END", "CLIENT", "GAPS", "MISSING", "TIMED_OUT", "Trouble", "error_of", "unavailable"]
