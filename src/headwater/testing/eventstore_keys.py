"""Part of the event store suite: idempotency keys."""

import msgspec
import pytest

from headwater.errors import ConcurrencyConflict, ConditionFailed, IdempotencyKeyReused
from headwater.eventstore import (
    EVERYTHING,
    AppendCondition,
    Appended,
    EventStore,
    Idempotency,
    StreamWrite,
)
from headwater.testing.eventstore_base import (
    EventStoreBase,
    ManualClock,
    event,
    put,
    settled,
    write,
)


class KeyConformance(EventStoreBase):
    """An append with a key that was stored before returns the first outcome."""

    async def test_first_outcome_is_returned(self, store: EventStore, clock: ManualClock) -> None:
        """The same key and fingerprint store nothing more; the answer is the first, marked."""
        key = Idempotency("k", "print")
        writes = [write("a", event(), event(), expected=0), write("b")]
        first = await store.append(writes, idempotency=key)
        assert first == Appended(1, 3, clock.now, ("a", "b"), (2, 1))
        await put(store, write("a"))
        clock.now += 5
        again = await store.append(writes, idempotency=key)
        assert again == msgspec.structs.replace(first, duplicate=True)
        assert await store.head() == 4

    async def test_looked_at_before_everything_else(self, store: EventStore) -> None:
        """A duplicate is found before expectations and conditions are looked at."""
        key = Idempotency("k")
        await store.append([write("a", expected=0)], idempotency=key)
        condition = AppendCondition(EVERYTHING, 0)
        again = await store.append([write("a", expected=0)], idempotency=key, condition=condition)
        assert again.duplicate
        with pytest.raises(IdempotencyKeyReused):
            await store.append([write("a", expected=0)], idempotency=Idempotency("k", "other"))

    async def test_another_content(self, store: EventStore) -> None:
        """The same key with another fingerprint is an error, and stores nothing."""
        await store.append([write("a")], idempotency=Idempotency("k", "one"))
        with pytest.raises(IdempotencyKeyReused, match="'k'"):
            await store.append([write("a")], idempotency=Idempotency("k", "two"))
        assert await store.head() == 1
        stored = await store.outcome("k")
        assert stored is not None
        assert stored[1] == "one"

    async def test_outcome(self, store: EventStore) -> None:
        """`outcome` tells what was stored under a key, with the fingerprint, unmarked."""
        first = await store.append(
            [write("a", event(), event())], idempotency=Idempotency("k", "f")
        )
        assert await store.outcome("k") == (first, "f")
        assert await store.outcome("other") is None

    async def test_key_without_events(self, store: EventStore) -> None:
        """An append without events stores its key."""
        await put(store, write("a"))
        key = Idempotency("k", "f")
        first = await store.append([StreamWrite("a", (), 1)], idempotency=key)
        assert (first.first, first.last, first.versions) == (2, 1, (1,))
        await put(store, write("a"))
        assert await store.outcome("k") == (first, "f")
        again = await store.append([write("a")], idempotency=key)
        assert again == msgspec.structs.replace(first, duplicate=True)
        assert await store.head() == 2

    async def test_failed_append_leaves_its_key_free(self, store: EventStore) -> None:
        """The key of an append that failed is not stored and can be used again."""
        key = Idempotency("k", "f")
        await put(store, write("a"))
        with pytest.raises(ConcurrencyConflict):
            await store.append([write("a", expected=0)], idempotency=key)
        with pytest.raises(ConditionFailed):
            await store.append(
                [write("a")], idempotency=key, condition=AppendCondition(EVERYTHING, 0)
            )
        assert await store.outcome("k") is None
        assert not (await store.append([write("a")], idempotency=key)).duplicate

    async def test_same_key_at_once(self, store: EventStore) -> None:
        """Of appends submitted together with one key, the first is stored, the rest are it."""
        key = Idempotency("k", "f")
        results = await settled(
            *(store.append([write("a")], idempotency=key) for _ in range(20)),
            store.append([write("a")], idempotency=Idempotency("k", "g")),
        )
        outcomes = [result for result in results if isinstance(result, Appended)]
        assert [outcome.duplicate for outcome in outcomes] == [False] + [True] * 19
        assert {outcome.first for outcome in outcomes} == {1}
        assert isinstance(results[-1], IdempotencyKeyReused)
        assert await store.head() == 1

    async def test_asked_behind_what_is_on_its_way(self, store: EventStore) -> None:
        """An append that no version allows asks for a key, after what was submitted before it."""
        never = StreamWrite("a", (), -1)
        results = await settled(
            store.append([never], idempotency=Idempotency("k", "f")),
            store.append([write("a")], idempotency=Idempotency("k", "f")),
            store.append([never], idempotency=Idempotency("k", "f")),
            store.append([never], idempotency=Idempotency("k", "g")),
            store.append([never], idempotency=Idempotency("other", "f")),
        )
        assert isinstance(results[0], ConcurrencyConflict)
        assert isinstance(results[1], Appended)
        assert results[2] == msgspec.structs.replace(results[1], duplicate=True)
        assert isinstance(results[3], IdempotencyKeyReused)
        assert isinstance(results[4], ConcurrencyConflict)
        assert await store.outcome("other") is None
        assert await store.head() == 1

    async def test_many_keys_at_once(self, store: EventStore) -> None:
        """Hundreds of keys stored together are each found again."""
        keys = [Idempotency(f"k{n}\0\u20ac", f"f{n}") for n in range(700)]
        work = [store.append([write("a")], idempotency=key) for key in keys]
        first = [result for result in await settled(*work) if isinstance(result, Appended)]
        assert [outcome.versions for outcome in first] == [(n + 1,) for n in range(700)]
        work = [store.append([write("a")], idempotency=key) for key in keys]
        again = [result for result in await settled(*work) if isinstance(result, Appended)]
        assert again == [msgspec.structs.replace(outcome, duplicate=True) for outcome in first]
        assert await store.outcome(keys[9].key) == (first[9], "f9")

    async def test_keys_are_forgotten_by_their_age(
        self, store: EventStore, clock: ManualClock
    ) -> None:
        """Older ones act as new, younger ones not, whatever a wrong clock has stamped between."""
        start, day = clock.now, 86_400 * 1_000_000
        ages = (0, 365 * day, day, 2 * day)
        outcomes = []
        for number, moved in enumerate(ages):
            clock.now = start + moved
            key = Idempotency(f"k{number}", "print")
            outcomes.append(await store.append([write("a")], idempotency=key))
        assert await store.forget_keys(2 * 86_400 + 1) == 0
        assert await store.forget_keys(86_400) == 3
        assert [await store.outcome(f"k{n}") is None for n in range(4)] == [True, True, True, False]
        assert [await store.forget_keys(age_s) for age_s in (86_400, 0.0)] == [0, 1]
        again = await store.append([write("a")], idempotency=Idempotency("k0", "other"))
        assert (again.duplicate, again.last) == (False, 5)
        await put(store, write("b"))
        assert (await store.outcome("k0") or ("", ""))[1] == "other"

    async def test_many_keys_are_forgotten_beside_appends(
        self, store: EventStore, clock: ManualClock
    ) -> None:
        """Appends under the keys that are being forgotten end as repetitions, or as new ones."""
        keys = [Idempotency(f"k{number}", "print") for number in range(2500)]
        await settled(*(store.append([write("a")], idempotency=key) for key in keys))
        clock.now += 10_000_000
        results = await settled(
            store.forget_keys(5.0),
            *(store.append([write("a")], idempotency=key) for key in keys[::50]),
        )
        fresh = [one for one in results[1:] if isinstance(one, Appended) and not one.duplicate]
        refused = [one for one in results[1:] if isinstance(one, BaseException)]
        assert all("send it again" in str(error) for error in refused)
        assert await store.head() == len(keys) + len(fresh)
        assert await store.forget_keys(5.0) == 0
