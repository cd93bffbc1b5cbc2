"""Sends under one key in one process: one at a time, and one outcome."""

import asyncio
from typing import Any

import msgspec
import pytest

from headwater.dispatch import CommandMessage, CommandNext, CommandResult
from headwater.dispatch import deduplication as room
from headwater.dispatch.api import KeyedHandler, fingerprint_of
from headwater.dispatch.interceptors import Validating, in_context
from headwater.dispatch.local import LocalCommandBus
from headwater.errors import (
    ConcurrencyConflict,
    HeadwaterError,
    IdempotencyKeyReused,
    MalformedMessage,
    Overloaded,
    Rejection,
    StoreUnavailable,
)
from headwater.messages import Command


class Buy(Command):
    item: str
    count: int = 1


class SoldOut(Rejection):
    pass


class Shop:
    """A handler that ends when the test says how, and remembers what it did under a key."""

    def __init__(self) -> None:
        self.under_way: list[asyncio.Future[Any]] = []
        self.bought: dict[str, tuple[CommandResult, str]] = {}
        self.looked_up: list[bool] = []
        self.away = False

    async def handle(self, message: CommandMessage) -> CommandResult:
        end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.under_way.append(end)
        await end
        result = CommandResult("shop", len(self.bought) + 1, "t")
        self.bought[message.idempotency_key] = result, message.fingerprint
        return result

    async def look_up(
        self,
        message: CommandMessage,
        *,
        settled: bool = False,
        refusal: HeadwaterError | None = None,
    ) -> CommandResult | None:
        self.looked_up.append(settled)
        if self.away:
            raise StoreUnavailable(store="x", reason="away")
        found = self.bought.get(message.idempotency_key)
        if found is None:
            return None
        if found[1] != message.fingerprint:
            raise IdempotencyKeyReused(key=message.idempotency_key)
        return msgspec.structs.replace(found[0], duplicate=True)

    def bus(self, *interceptors: Any) -> LocalCommandBus:
        keyed = KeyedHandler(self.handle, self.look_up)
        return LocalCommandBus([{Buy: keyed}], interceptors=interceptors)

    async def end(self, error: Exception | None = None) -> None:
        """Let the one that is under way end, and all that follows from it happen."""
        (end,) = self.under_way
        self.under_way.clear()
        if error is None:
            end.set_result(None)
        else:
            end.set_exception(error)
        await turns()


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def shop() -> Shop:
    return Shop()


async def start(bus: LocalCommandBus, *keys: str) -> list[asyncio.Task[CommandResult]]:
    tasks = [asyncio.create_task(bus.send(Buy("a"), idempotency_key=key)) for key in keys]
    await turns()
    return tasks


async def test_one_at_a_time(shop: Shop) -> None:
    """Of sends that are the same one is under way, and all get its result, the others marked."""
    bus = shop.bus()
    tasks = await start(bus, "k", "k", "k")
    await shop.end()
    results = [await task for task in tasks]
    assert results == [
        CommandResult("shop", 1, "t"),
        *[CommandResult("shop", 1, "t", duplicate=True)] * 2,
    ]
    assert shop.looked_up == [], "nothing is to be looked up when it is carried out"
    assert bus._deduplication._waiting == {}


async def test_others_do_not_wait(shop: Shop) -> None:
    """Who differs in key or content, or has no key, does not wait."""
    bus = shop.bus()
    tasks = await start(bus, "k", "k2", "", "")
    tasks.append(asyncio.create_task(bus.send(Buy("b"), idempotency_key="k")))
    await turns()
    assert len(shop.under_way) == 5
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize("error", [SoldOut(), KeyError("a"), Overloaded(limit=1)])
async def test_in_order_until_one_is_carried_out(shop: Shop, error: Exception) -> None:
    """When one ends without a result, the next one tries: in order, one at a time."""
    bus = shop.bus()
    tasks = await start(bus, *"kkkk")
    await shop.end(error)
    assert [task.done() for task in tasks] == [True, False, False, False]
    late = asyncio.create_task(bus.send(Buy("a"), idempotency_key="k"))
    await shop.end(error)
    await shop.end()
    assert [task.exception() for task in tasks[:2]] == [error, error]
    assert [(await task).duplicate for task in tasks[2:]] == [False, True]
    assert (await late).duplicate
    assert len(shop.looked_up) == (0 if isinstance(error, Overloaded) else 2)
    assert bus._deduplication._waiting == {}


async def test_who_left_does_not_hold_up(shop: Shop) -> None:
    """Who is cancelled while it waits is passed over."""
    bus = shop.bus()
    tasks = await start(bus, "k", "k", "k")
    tasks[1].cancel()
    await shop.end(SoldOut())
    await shop.end()
    assert tasks[1].cancelled()
    assert not (await tasks[2]).duplicate
    assert bus._deduplication._waiting == {}


async def test_who_leaves_at_its_turn_passes_it_on(shop: Shop) -> None:
    """Who is cancelled just when its turn has come lets the next one have it."""
    tasks: list[asyncio.Task[CommandResult]] = []

    async def cancel_the_second(message: CommandMessage, proceed: CommandNext) -> CommandResult:
        try:
            return await proceed(message)
        except SoldOut:
            tasks[1].cancel()
            raise

    keyed = KeyedHandler(shop.handle, shop.look_up)
    bus = LocalCommandBus([{Buy: keyed}], always=[cancel_the_second])
    tasks += await start(bus, "k", "k", "k")
    await shop.end(SoldOut())
    await shop.end()
    assert tasks[1].cancelled()
    assert not (await tasks[2]).duplicate
    assert bus._deduplication._waiting == {}


async def test_after_a_cancellation(shop: Shop) -> None:
    """After one that was cancelled under way the next looks up what has become of it, first."""
    bus = shop.bus()
    for _ in range(2):
        (task,) = await start(bus, "k")
        task.cancel()
        await asyncio.wait([task])
        shop.under_way.clear()
    assert shop.looked_up == [True]
    shop.away = True
    (task,) = await start(bus, "k")
    assert isinstance(task.exception(), StoreUnavailable)
    shop.away = False
    (task,) = await start(bus, "k")
    await shop.end()
    assert not (await task).duplicate
    assert shop.looked_up == [True, True, True]
    assert (await start(bus, "k"))[0].done() is False, "it was found out, and is known no more"
    assert shop.looked_up == [True, True, True]


async def test_what_was_left_is_bounded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are cancelled, so many of the latest are remembered."""
    monkeypatch.setattr(room, "_LEFT_MAX", 3)
    bus = shop.bus()
    for number in range(10):
        (task,) = await start(bus, f"k{number}")
        task.cancel()
        await asyncio.wait([task])
    assert [key for key, *_ in bus._deduplication._left] == ["k7", "k8", "k9"]


async def test_a_refusal_is_checked(shop: Shop) -> None:
    """What would be refused or fails is looked up, and is its first outcome if it has one."""
    bus = shop.bus()
    for error in (SoldOut(), KeyError("a"), ConcurrencyConflict(stream="x", expected=1, actual=2)):
        key = repr(error)
        (task,) = await start(bus, key)
        shop.bought[key] = CommandResult("elsewhere", 7, "t"), fingerprint_of(Buy("a"))
        await shop.end(error)
        assert await task == CommandResult("elsewhere", 7, "t", duplicate=True)


async def test_a_refusal_that_cannot_be_checked(shop: Shop) -> None:
    """While the store cannot be asked nobody is refused: it is tried again later."""
    bus = shop.bus()
    (task,) = await start(bus, "k")
    shop.away = True
    await shop.end(SoldOut())
    assert isinstance(task.exception(), StoreUnavailable)


@pytest.mark.parametrize("own", [False, True])
async def test_looked_up_first_where_something_happens(shop: Shop, *, own: bool) -> None:
    """Before own interceptors the key is looked up; validation alone spares that."""

    async def mine(message: CommandMessage, proceed: CommandNext) -> CommandResult:
        return await proceed(message)

    bus = shop.bus(Validating(), in_context, *([mine] if own else []))
    (task,) = await start(bus, "k")
    await shop.end()
    assert not (await task).duplicate
    assert shop.looked_up == ([False] if own else [])


async def test_validation_comes_after_the_key(shop: Shop) -> None:
    """What was carried out is not refused for its content, if that is valid no more."""
    bus = shop.bus(Validating())
    odd = Buy("a", "two")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(MalformedMessage):
        await bus.send(odd, idempotency_key="k")
    shop.bought["k"] = CommandResult("shop", 1, "t"), fingerprint_of(odd)
    assert (await bus.send(odd, idempotency_key="k")).duplicate
