"""Rules of decisions over a consistency boundary, for every event store."""

import asyncio
from typing import Any

import pytest

from headwater.dispatch.local import LocalCommandBus
from headwater.errors import ConditionFailed
from headwater.eventstore import EventStore, StreamWrite
from headwater.messages import Metadata
from headwater.modelling import Repository
from headwater.modelling.encoding import new_events
from headwater.modelling.models import DecisionHandlers
from tests.unit.modelling.ledger import (
    Account,
    ChangeEmail,
    EmailAddress,
    EmailChanged,
    EmailTaken,
    Open,
    ReserveEmail,
)
from tests.unit.modelling.repository_rules import Contended, bus_on, log_of, types_of


class DecisionRules:
    """Decisions over a consistency boundary."""

    async def test_unique_email(self, store: EventStore) -> None:
        """Of many aggregates that want one e-mail address at once, exactly one gets it."""
        buses = [bus_on(store) for _ in range(4)]
        outcomes = await asyncio.gather(
            *(buses[n % 4].send(Open(str(n), "eve@x.example")) for n in range(20)),
            return_exceptions=True,
        )
        assert sum(not isinstance(o, BaseException) for o in outcomes) == 1
        assert sum(isinstance(o, EmailTaken) for o in outcomes) == 19
        assert await types_of(store) == ["Opened"]

    async def test_email_becomes_free(self, store: EventStore) -> None:
        """A decision sees what happened inside its boundary, whichever stream it is in."""
        bus = bus_on(store)
        await bus.send(Open("1", "eve@x.example"))
        await bus.send(Open("2", "bob@x.example"))
        with pytest.raises(EmailTaken):
            await bus.send(ChangeEmail("2", "eve@x.example"))
        await bus.send(ChangeEmail("1", "new@x.example"))
        assert (await bus.send(ChangeEmail("2", "eve@x.example"))).version == 2

    async def test_events_outside_the_boundary(self, store: EventStore) -> None:
        """Different addresses do not disturb one another: all get theirs."""
        bus = bus_on(store)
        results = await asyncio.gather(
            *(bus.send(Open(str(n), f"{n}@x.example")) for n in range(20))
        )
        assert [r.version for r in results] == 20 * [1]

    async def test_swap_under_concurrency(self, store: EventStore) -> None:
        """Aggregates that exchange addresses at once never hold the same one."""
        buses = [bus_on(store), bus_on(store)]
        for n in range(4):
            await buses[0].send(Open(str(n), f"{n}@x.example"))
        await asyncio.gather(
            *(
                buses[n % 2].send(ChangeEmail(str(n % 4), f"{(n * 7) % 6}@x.example"))
                for n in range(40)
            ),
            return_exceptions=True,
        )
        repository = Repository(Account, store, source="accounts")
        held = [(await repository.state(str(n))).state.email for n in range(4)]
        assert len(set(held)) == 4

    async def test_model_by_itself(self, store: EventStore) -> None:
        """A decision model handles commands by itself; events go to its own stream."""
        bus = bus_on(store)
        first = await bus.send(ReserveEmail("eve@x.example", "a"), idempotency_key="k")
        assert (first.id, first.version) == ("eve@x.example", 1)
        assert (await log_of(store))[0].stream == "EmailAddress/eve@x.example"
        with pytest.raises(EmailTaken):
            await bus.send(ReserveEmail("eve@x.example", "b"))
        with pytest.raises(EmailTaken):
            await bus.send(Open("1", "eve@x.example"))
        again = await bus.send(ReserveEmail("eve@x.example", "a"), idempotency_key="k")
        assert (again.version, again.token, again.duplicate) == (1, first.token, True)

    async def test_model_by_itself_at_once(self, store: EventStore) -> None:
        """Of many reservations at once, over several processes, exactly one is stored."""
        buses = [bus_on(store), bus_on(store)]
        outcomes = await asyncio.gather(
            *(buses[n % 2].send(ReserveEmail("eve@x.example", str(n))) for n in range(20)),
            return_exceptions=True,
        )
        assert sum(not isinstance(o, BaseException) for o in outcomes) == 1
        assert await types_of(store) == ["EmailReserved"]

    async def test_model_without_events(self, store: EventStore) -> None:
        """A decision without events stores nothing but its key."""
        bus = bus_on(store)
        nothing = ReserveEmail("eve@x.example", "nothing")
        assert not (await bus.send(nothing, idempotency_key="k")).duplicate
        assert (await bus.send(nothing, idempotency_key="k")).duplicate
        assert await store.head() == 0

    async def test_condition_fails_for_good(self, store: EventStore) -> None:
        """When others keep storing inside the boundary, the decision fails after some attempts."""

        class Disturbed(Contended):
            async def append(self, writes: Any, **options: Any) -> Any:
                cause = Metadata(id="foreign")
                other = new_events([EmailChanged("1", "new@x.example", "eve@x.example")], cause)
                await self._store.append([StreamWrite("Other/1", other)])
                return await self._store.append(writes, **options)

        handlers = DecisionHandlers(EmailAddress, Disturbed(store), source="x", attempts=3)
        bus = LocalCommandBus([handlers.handlers()])
        with pytest.raises(ConditionFailed, match="reload and decide again"):
            await bus.send(ReserveEmail("eve@x.example"))
        assert await store.head() == 3
