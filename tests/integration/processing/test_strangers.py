"""Events of other programs on the bus: handled once each, by source and id; parked if they fail."""

import itertools

import msgspec

from headwater.eventbus import BusEvent
from headwater.eventbus.memory import MemoryEventBus
from headwater.messages import Event
from headwater.processing import BusSource, ProcessorAdmin
from headwater.processing.sources.strangers import WINDOW, Strangers
from headwater.processing.sources.tokens import Token, token_of
from tests.integration.processing.conftest import Stores, until
from tests.integration.processing.domain import Deposited, Ledger, Opened
from tests.integration.processing.test_bus_source import balances, on_bus, reader

_NUMBERS = itertools.count(1)  # a bus of ours takes one of a number but once; it is not on the wire


def foreign(id: str, event: Event, *, source: str = "/till", stream: str = "s") -> BusEvent:
    """Return an event as a program without positions publishes it."""
    made = on_bus(next(_NUMBERS), stream, event, source=source, epoch="")
    return msgspec.structs.replace(made, id=id, confirmed=0)


async def has(stores: Stores, expected: dict[str, int]) -> None:
    async def done() -> bool:
        return await balances(stores) == expected

    await until(done, timeout_s=60.0)


async def test_what_is_sent_twice_has_one_effect(stores: Stores) -> None:
    """A repetition has no effect, in one page, in another one, and after a restart."""
    processor = reader(stores)
    await processor.start()
    deposit = foreign("2", Deposited("a", 5))
    await stores.bus.publish([foreign("1", Opened("a", "x")), deposit, deposit])
    await has(stores, {"a": 5})
    await stores.bus.publish([deposit, foreign("3", Deposited("a", 2))])
    await has(stores, {"a": 7})
    await processor.stop()
    await stores.bus.publish([deposit, foreign("3", Deposited("a", 2))])
    await stores.bus.publish([deposit, foreign("4", Deposited("a", 1))])
    await stores.start(reader(stores, "after"))
    await has(stores, {"a": 8})


async def test_only_source_and_id_together_identify_an_event(stores: Stores) -> None:
    """The same id of another source is another event, and so is other content under a new id."""
    await stores.bus.publish([
        foreign("1", Opened("a", "x")),
        foreign("1", Deposited("a", 1), source="/other"),
        foreign("1", Deposited("a", 100)),  # it was used
        foreign("2", Deposited("a", 1)),
    ])  # fmt: skip
    await stores.start(reader(stores))
    await has(stores, {"a": 2})


async def test_it_is_told_apart_from_events_of_services(stores: Stores) -> None:
    """Positions and ids do not come into each other's way."""
    opened = foreign("1", Opened("b", "x"), source="ledger")
    deposited = foreign("2", Deposited("b", 10), source="ledger")
    own = [on_bus(1, "s", Opened("a", "x")), on_bus(2, "s", Deposited("a", 1))]
    await stores.bus.publish([own[0], opened, own[1]])
    await stores.bus.publish([deposited, own[1], on_bus(3, "s", Deposited("a", 1)), deposited])
    await stores.start(reader(stores))
    await has(stores, {"a": 2, "b": 10})


async def test_what_cannot_be_handled_parks(stores: Stores) -> None:
    """An event that does not fit its class is a letter; other subjects go on."""
    broken = foreign("2", Deposited("a", 5), stream="a")
    broken = msgspec.structs.replace(broken, data=b'{"account_id": 7}')
    await stores.bus.publish([
        foreign("1", Opened("b", "x"), stream="b"), broken, broken,
        foreign("3", Deposited("b", 5), stream="b"),
    ])  # fmt: skip
    await stores.start(reader(stores))
    await has(stores, {"b": 5})
    admin = ProcessorAdmin(Ledger(), source=BusSource(stores.bus), views=stores.views)

    async def parked() -> bool:
        found = [letter async for letter in admin.letters()]
        return [(x.sequence, x.code, x.due) for x in found] == [("/till:a", "event-unreadable", 0)]

    await until(parked, timeout_s=60.0)


def test_the_window() -> None:
    """The last events of a partition are remembered, and no more."""
    known = Strangers(())
    events = [foreign(str(n), Opened("a", "x")) for n in range(WINDOW + 1)]
    assert all(map(known.see, events))
    assert not any(map(known.see, events[1:]))
    assert len(known.known) == WINDOW
    assert known.see(events[0])


def test_the_window_goes_with_its_partition() -> None:
    """Tokens that are divided, joined and compared keep what belongs to the partitions."""
    source = BusSource(MemoryEventBus(partitions=2))
    token = Token(offsets={0: 5, 1: 7}, strangers={0: ("a",), 1: ("b", "c")})
    assert token_of(token.text) == token
    first, second = source.restrict(token, [0], 2), source.restrict(token, [1], 2)
    assert (first.strangers, second.strangers) == ({0: ("a",)}, {1: ("b", "c")})
    joined = source.join(first, second)
    assert joined is not None
    assert joined.strangers == token.strangers
    behind = Token(offsets={0: 3}, strangers={0: ("z",)})
    assert source.least([token, behind]).strangers == {0: ("z",), 1: ("b", "c")}
