"""The topics of a bus: made with the settings that it needs, or refused for those they have."""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicDescription,
)

from headwater.errors import ConfigurationError, StoreCorrupt, StoreUnavailable
from headwater.eventbus.kafka.asking import Administrator
from headwater.eventbus.kafka.faults import MISSING, error_of, unavailable
from headwater.eventbus.kafka.settings import Place

K = TypeVar("K")
T = TypeVar("T")
_LOOK_S = 0.05
_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # the client's are few
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # as above
MESSAGE_BYTES_MAX = 8 << 20
"""How large an event may be in a topic that is made."""

_EVENTS = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
_NOTES = {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}
_SAFE = {"unclean.leader.election.enable": "false"}
_MADE_NOTES = {
    **_NOTES,
    "segment.bytes": str(4 << 20),
    "min.cleanable.dirty.ratio": "0.1",
    "min.compaction.lag.ms": "3600000",  # longer than anybody takes to read what was noted
}


class Found(NamedTuple):
    """The topic of events as it is."""

    id: str
    bytes_max: int


class Topics:
    """Asks the cluster about the topics of a place, and changes them."""

    def __init__(self, place: Place, *, patience_s: float) -> None:
        """Connect in the background.

        Raises:
            ConfigurationError: librdkafka does not take the settings.
        """
        self._place = place
        self._patience_s = patience_s
        self._id = ""
        try:
            self._cluster = Administrator(place)
        except KafkaException as error:
            raise ConfigurationError(
                subject=f"event bus {place.name}", reason=_without_secrets(error, place)
            ) from None

    async def ensure(self, partitions: int) -> Found:
        """Make the topics that are missing; return what the one of events is like.

        Raises:
            ConfigurationError: a topic is there with other settings; all of them are named.
            StoreUnavailable: the cluster cannot be reached.
        """
        try:
            events = await self._ensure(self._place.events, partitions, _EVENTS, {})
        except StoreUnavailable as error:
            if refused := self._cluster.trouble.refused:
                reason = f"the cluster does not let us in: {refused}"
                raise ConfigurationError(
                    subject=f"event bus {self._place.name}", reason=reason
                ) from error
            raise
        await self._ensure(self._place.notes, 1, _NOTES, _MADE_NOTES)
        self._id = str(events.topic_id)
        return Found(self._id, await self.bytes_max())

    async def bytes_max(self) -> int:
        """Return how large an event may be."""
        return int((await self._settings(self._place.events))["max.message.bytes"])

    async def check_same(self) -> None:
        """Check that the topic of events is still the one that it was.

        Raises:
            StoreCorrupt: it is gone, or another one.
            StoreUnavailable: the cluster cannot be reached.
        """
        found = await self._describe(self._place.events)
        if found is None or str(found.topic_id) != self._id:
            raise self.replaced("is gone" if found is None else "was deleted and made anew")

    def replaced(self, state: str) -> StoreCorrupt:
        """Return the error for a topic of events that is not what it was."""
        reason = (
            f"topic {self._place.events} {state}, so what was published there is lost: use another "
            "prefix of topics, on which the stores are published anew"
        )
        return StoreCorrupt(store=self._place.name, reason=reason, outcome="not stored")

    async def offsets(self) -> tuple[dict[int, int], dict[int, int]]:
        """Return for every partition the first offset that is kept, and the next one."""
        found = await self._describe(self._place.events)
        if found is None or str(found.topic_id) != self._id:
            await self.check_same()
        every = range(len(found.partitions) if found is not None else 0)
        first, following = await asyncio.gather(
            self._list(every, _EARLIEST), self._list(every, _LATEST)
        )
        return first, following

    async def delete_before(self, offsets: Mapping[int, int]) -> None:
        """Delete what comes before an offset of each partition."""
        wanted = [TopicPartition(self._place.events, p, offset) for p, offset in offsets.items()]
        await self._ask(lambda c: c.delete_records(wanted, request_timeout=self._patience_s))

    async def _list(self, partitions: range, which: OffsetSpec) -> dict[int, int]:
        wanted = {TopicPartition(self._place.events, p): which for p in partitions}
        found = await self._ask(lambda c: c.list_offsets(wanted, request_timeout=self._patience_s))
        return {one.partition: info.offset for one, info in found.items()}

    async def _ensure(
        self, topic: str, partitions: int, wanted: Mapping[str, str], made: Mapping[str, str]
    ) -> TopicDescription:
        found = await self._describe(topic)
        if found is None:
            await self._make(topic, partitions, {**wanted, **made})
            found = await self._made(topic)
        settings = await self._settings(topic)
        wrong = self._wrong(found, settings, partitions, wanted)
        if wrong:
            raise ConfigurationError(
                subject=f"topic {topic} of event bus {self._place.name}",
                reason=f"{'; '.join(wrong)}: change the topic, or use another prefix",
            )
        return found

    def _wrong(
        self,
        found: TopicDescription,
        settings: Mapping[str, str],
        partitions: int,
        wanted: Mapping[str, str],
    ) -> list[str]:
        wrong = []
        there = len(found.partitions)
        if there != partitions:
            wrong.append(
                f"it was made with {there} partitions, {partitions} were asked for: set {there}"
            )
        for name, value in {**wanted, **_SAFE}.items():
            if settings.get(name, value) != value:
                wrong.append(f"{name} is {settings[name]}, expected {value}")
        copies = min(len(one.replicas) for one in found.partitions)
        least = int(settings.get("min.insync.replicas", "1"))
        if copies < self._place.replication:
            wrong.append(f"it has {copies} replicas, expected {self._place.replication}")
        if self._place.min_insync and least != self._place.min_insync:
            wrong.append(f"min.insync.replicas is {least}, expected {self._place.min_insync}")
        if least > copies:
            wrong.append(
                f"min.insync.replicas is {least}, and it has {copies} replicas, so nothing can be "
                "published"
            )
        return wrong

    async def _make(self, topic: str, partitions: int, settings: Mapping[str, str]) -> None:
        config = {**settings, "max.message.bytes": str(MESSAGE_BYTES_MAX)}
        if self._place.min_insync:
            config["min.insync.replicas"] = str(self._place.min_insync)
        new = NewTopic(topic, partitions, self._place.replication, config=config)
        try:
            await self._cluster.ask(
                lambda c: c.create_topics([new], request_timeout=self._patience_s)
            )
        except KafkaException as error:
            refused = error_of(error)
            if refused.code() == KafkaError.TOPIC_ALREADY_EXISTS:  # somebody was faster
                return
            if refused.code() in _REFUSED:
                raise ConfigurationError(
                    subject=f"topic {topic} of event bus {self._place.name}",
                    reason=f"it cannot be made: {refused.str()}",
                ) from error
            raise self._unavailable(error) from error

    async def _made(self, topic: str) -> TopicDescription:
        """Wait until a new topic is known and each partition has a leader."""
        deadline = time.monotonic() + self._patience_s
        while True:
            found = await self._describe(topic)
            if found is not None and all(one.leader is not None for one in found.partitions):
                return found
            if time.monotonic() > deadline:
                raise unavailable(self._place.name, f"topic {topic} was made, and does not come up")
            await asyncio.sleep(_LOOK_S)

    async def _describe(self, topic: str) -> TopicDescription | None:
        asked = TopicCollection([topic])
        try:
            found: dict[str, TopicDescription] = await self._cluster.ask(
                lambda c: c.describe_topics(asked, request_timeout=self._patience_s)
            )
            return found[topic]
        except KafkaException as error:
            if error_of(error).code() in MISSING:
                return None
            raise self._unavailable(error) from error

    async def _settings(self, topic: str) -> dict[str, str]:
        asked = [ConfigResource(ResourceType.TOPIC, topic)]
        answer = await self._ask(
            lambda c: c.describe_configs(asked, request_timeout=self._patience_s)
        )
        [found] = answer.values()
        return {name: entry.value for name, entry in found.items() if entry.value is not None}

    async def _ask(self, what: Callable[[AdminClient], Mapping[K, "Future[T]"]]) -> dict[K, T]:
        try:
            return await self._cluster.ask(what)
        except KafkaException as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: KafkaException) -> Exception:
        reason = self._cluster.trouble.named(error_of(error).str())
        return unavailable(self._place.name, reason)


_REFUSED = frozenset({
    KafkaError.INVALID_CONFIG, KafkaError.INVALID_PARTITIONS, KafkaError.POLICY_VIOLATION,
    KafkaError.INVALID_REPLICATION_FACTOR, KafkaError.INVALID_REPLICA_ASSIGNMENT,
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.INVALID_REQUEST, KafkaError.TOPIC_EXCEPTION,
})  # fmt: skip


def _without_secrets(error: KafkaException, place: Place) -> str:
    text = error_of(error).str()
    password = place.client.get("sasl.password")
    return text.replace(password, "...") if password else text


__all__ = ["MESSAGE_BYTES_MAX", "Found", "Topics"]
