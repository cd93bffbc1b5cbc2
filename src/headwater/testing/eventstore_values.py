"""Part of the event store suite: odd names and numbers, answered alike by every store."""

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headwater.errors import InvalidInput
from headwater.eventstore import AppendCondition, EventStore, Idempotency, Snapshot
from headwater.testing.eventstore_base import (
    EventStoreBase,
    event,
    log_of,
    matching,
    pages_of,
    put,
    write,
)

NO_TEXT = "a\ud800"
"""A lone surrogate, which has no bytes in UTF-8."""


def random_text(length: int, *, seed: int) -> str:
    """Return text that does not become shorter when it is compressed, four bytes a character."""
    chosen = random.Random(seed)  # noqa: S311  # no secret
    return "".join(chr(chosen.randrange(0x10000, 0x110000)) for _ in range(length))


class ValueConformance(EventStoreBase):
    """What a database cannot take is refused by all stores, and harms nothing."""

    async def test_names_that_are_no_text_are_refused(self, store: EventStore) -> None:
        """A stream, type, tag, key or filter with a lone surrogate is `InvalidInput`."""
        refused: dict[str, Callable[[], Awaitable[object]]] = {
            "stream": lambda: put(store, write(NO_TEXT)),
            "type": lambda: put(store, write("a", event(NO_TEXT))),
            "tag": lambda: put(store, write("a", event("Happened", NO_TEXT))),
            "key": lambda: store.append((write("a"),), idempotency=Idempotency(NO_TEXT)),
            "print": lambda: store.append((write("a"),), idempotency=Idempotency("k", NO_TEXT)),
            "condition": lambda: store.append(
                (write("a"),), condition=AppendCondition(matching(NO_TEXT), 0)
            ),
            "outcome": lambda: store.outcome(NO_TEXT),
            "version": lambda: store.version(NO_TEXT),
            "snapshot": lambda: store.load_snapshot(NO_TEXT),
            "saved": lambda: store.save_snapshot(Snapshot(NO_TEXT, 1, "f", b"{}")),
            "read stream": lambda: pages_of(store.read_stream(NO_TEXT)),
            "read": lambda: pages_of(store.read(filter=matching(NO_TEXT))),
        }
        for name, use in refused.items():
            with pytest.raises(InvalidInput):
                await use()
            assert await store.head() == 0, name
        await put(store, write("a"))
        assert len(await log_of(store)) == 1

    async def test_names_that_no_index_takes_are_refused(self, store: EventStore) -> None:
        """A stream, tag or type of more than 1,000 bytes is refused before anything is stored."""
        fits = random_text(250, seed=1)  # 1,000 bytes that cannot be compressed
        await put(store, write(fits, event(fits, fits, random_text(250, seed=2))))
        await store.retag({1: (random_text(250, seed=3),)})
        key = random_text(500, seed=4)
        await store.append((write("k"),), idempotency=Idempotency(key))
        assert await store.outcome(key) is not None
        refused: dict[str, Callable[[], Awaitable[object]]] = {
            "stream": lambda: put(store, write(fits + "x")),
            "event type": lambda: put(store, write("a", event(fits + "x"))),
            "tag": lambda: put(store, write("a", event("Happened", "t", fits + "x"))),
            "tag ": lambda: store.retag({1: (fits + "x",)}),
            "idempotency key": lambda: store.append(
                (write("a"),), idempotency=Idempotency(key + "x")
            ),
        }
        for name, use in refused.items():
            with pytest.raises(InvalidInput, match=rf"{name}.* has [0-9]+ .*, at most"):
                await use()
            assert await store.head() == 2, name

    async def test_numbers_beyond_64_bits_are_refused(self, store: EventStore) -> None:
        """No position, version or limit has more than 64 bits."""
        await put(store, write("a"))
        for name in ("after", "until", "limit", "page_size"):
            number: dict[str, Any] = {name: 2**63}
            with pytest.raises(InvalidInput, match=f"is {2**63}, expected"):
                await pages_of(store.read(**number))
            with pytest.raises(InvalidInput, match=f"is {2**63}, expected"):
                await pages_of(store.read_stream("a", **number))
        assert (await pages_of(store.read(after=2**63 - 1)))[-1].events == ()
