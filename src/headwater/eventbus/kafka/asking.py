"""Asking a cluster about itself, by clients each of which ends with its first failure.

librdkafka's client of administrators, which follows no topic, may not look for a broker any more
after connections broke at an unlucky moment: all that it is asked runs into its time-out, for ever.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headwater.eventbus.kafka.faults import CLIENT, Trouble, error_of
from headwater.eventbus.kafka.settings import Place

K = TypeVar("K")
T = TypeVar("T")


class _Client:
    """A client, and how many wait for an answer of it."""

    def __init__(self, place: Place) -> None:
        self.trouble = Trouble()
        settings: dict[str, Any] = {**CLIENT, **place.client, "error_cb": self.trouble.hear}
        self.admin: AdminClient | None = AdminClient(settings)
        self.waiting = 0

    def end(self) -> None:
        """Let it go, which may take a moment."""
        self.admin = None


class Administrator:
    """Asks the cluster of a place.

    Attributes:
        trouble: what the client that failed last has complained about.
    """

    def __init__(self, place: Place) -> None:
        """Connect in the background.

        Raises:
            KafkaException: librdkafka does not take the settings.
        """
        self._place = place
        self._client = _Client(place)
        self.trouble = self._client.trouble

    async def ask(self, what: Callable[[AdminClient], Mapping[K, "Future[T]"]]) -> dict[K, T]:
        """Ask for some things, and return all the answers.

        Raises:
            KafkaException: the first of them that is an error.
        """
        client = self._client
        assert client.admin is not None
        client.waiting += 1
        try:
            return {asked: await _settled(one) for asked, one in what(client.admin).items()}
        except KafkaException as error:
            client.admin.poll(0)  # so that it says what is the matter
            self.trouble = client.trouble
            if error_of(error).code() < 0 and client is self._client:  # no answer of a broker
                self._client = _Client(self._place)
            raise
        finally:
            client.waiting -= 1
            if client is not self._client and not client.waiting:
                asyncio.get_running_loop().run_in_executor(None, client.end)


async def _settled(future: "Future[T]") -> T:
    """Return the result; who is cancelled leaves the client's future alone."""
    wrapped = asyncio.wrap_future(future)
    wrapped.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(wrapped)


__all__ = ["Administrator"]
