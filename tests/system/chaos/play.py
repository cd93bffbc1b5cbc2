"""One schedule from beginning to end."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from tests.cutting_proxy import CuttingProxy
from tests.postgres_server import PostgresServer
from tests.system.chaos.books import judge, keep_logs, settle
from tests.system.chaos.bus import Broker, broker
from tests.system.chaos.crowd import Crowd
from tests.system.chaos.ills import Ills, small_disk
from tests.system.chaos.schedule import Fault, schedule
from tests.system.chaos.town import Town

_CLIENTS = 6
_START_S_MAX = 120.0

Say = Callable[[str], None]


class Outcome(msgspec.Struct, frozen=True):
    """What came of a schedule.

    Attributes:
        wrong: what must not be, in words; empty when all is well.
        faults: how many there were.
        requests: how many were sent.
        settled_s: how long it took, after the last fault, until nothing was wrong any more.
    """

    wrong: list[str]
    faults: int
    requests: int
    settled_s: float

    def __str__(self) -> str:
        """The line that is printed."""
        what = "; ".join(self.wrong) or "nothing is wrong"
        counts = f"{self.faults} faults, {self.requests} requests"
        return f"{counts}, settled after {self.settled_s:.1f} s: {what}"


class WentWrong(AssertionError):
    """A schedule did not end well."""


async def play(
    seed: int,
    *,
    seconds: float,
    backend: str,
    bus: str = "",
    folder: Path,
    say: Say = lambda _: None,
) -> Outcome:
    """Start the bank in a random order, let a schedule strike it under load, heal, and judge.

    Args:
        seed: of the schedule, the order and the clients.
        seconds: for how long things fail.
        backend: ``sqlite`` or ``postgres``.
        bus: ``rabbitmq`` or ``kafka``; empty: the event bus is where the data is.
        folder: for logs, and for the data when something is wrong.
        say: told of each fault as it comes.

    Raises:
        WentWrong: something is not as it must be.
    """
    with small_disk(folder / "data") as disk:
        faults = schedule(seed, seconds=seconds, backend=backend, bus=bus)
        async with broker(bus) as over:
            outcome = await _play(seed, faults, backend, over, folder, disk, say)
        say(str(outcome))
        if outcome.wrong:
            raise WentWrong(str(outcome))
        return outcome


async def _play(
    seed: int,
    faults: list[Fault],
    backend: str,
    over: Broker | None,
    folder: Path,
    disk: Path | None,
    say: Say,
) -> Outcome:
    draw, place = random.Random(seed), disk or folder
    async with contextlib.AsyncExitStack() as stack:
        server, proxies = None, {}
        if backend == "postgres":
            server, proxies = await stack.enter_async_context(_database(place, seed))
        databases = {name: proxy.url for name, proxy in proxies.items()}
        if server is not None:
            databases[""] = server.url(tcp=True)
        town = Town(folder, place, databases=databases, bus=over.url if over else "")
        stack.push_async_callback(town.close)
        ills = Ills(town, server=server, proxies=proxies, broker=over, disk=disk, say=say)
        crowd = Crowd(town.gateway, seed)
        await town.start(draw, within_s=draw.uniform(0.0, 4.0))
        living = asyncio.create_task(crowd.live(clients=_CLIENTS))
        try:
            await crowd.wait_for_first(_START_S_MAX)
            await ills.strike(faults)
            await ills.heal(draw)
            say("all is healed")
            crowd.leave()
            await living
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
        wrong, settled_s = await settle(town)
        wrong += await judge(town, crowd.witness)
        wrong += town.strange_ends()
        if wrong:
            await keep_logs(town, folder)
    return Outcome(wrong, len(faults), sum(crowd.answers.values()), settled_s)


@contextlib.asynccontextmanager
async def _database(
    place: Path, seed: int
) -> AsyncIterator[tuple[PostgresServer, dict[str, CuttingProxy]]]:
    """Run a server, and a proxy on the way of each service to it."""
    server = PostgresServer(durable=False, inside=place)
    try:
        server.start()
        async with contextlib.AsyncExitStack() as stack:
            proxies = {}
            for name in ("customers", "accounts", "transfers", "insights"):
                proxy = CuttingProxy(server.url(tcp=True), seed=seed)
                proxies[name] = await stack.enter_async_context(proxy)
            yield server, proxies
    finally:
        server.remove()
