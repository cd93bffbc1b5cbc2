"""Does to a town what a schedule says, and heals it."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from tests.cutting_proxy import HOWS, CuttingProxy
from tests.postgres_server import PostgresServer
from tests.system.chaos.bus import Broker
from tests.system.chaos.schedule import Fault
from tests.system.chaos.town import Resident, Town

_DISK_MB = 600


class Ills:
    """What befalls a town: several faults at a time, each of which ends by itself."""

    def __init__(
        self,
        town: Town,
        *,
        server: PostgresServer | None,
        proxies: dict[str, CuttingProxy],
        broker: Broker | None = None,
        disk: Path | None,
        say: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            town: whom it befalls.
            server: the database server, if there is one.
            proxies: on the way to it, by service.
            broker: what carries the event bus, if something does.
            disk: a file system that may be filled; None: the fault is left out.
            say: told what is done.
        """
        self._town, self._server, self._proxies, self._disk = town, server, proxies, disk
        self._say = say
        self._broker = broker
        self._restarting = asyncio.Lock()  # one thing at a time starts and ends processes
        self._database = asyncio.Lock()
        self._bus = asyncio.Lock()
        self._kinds: dict[str, Callable[[Fault, random.Random], Coroutine[Any, Any, None]]] = {
            "kill": self._kill,
            "end": self._end,
            "pause": self._pause,
            "restart all": self._restart_all,
            "clock": self._clock,
            "disk full": self._fill,
            "database killed": self._stop_database,
            "database stopped": self._stop_database,
            "commits cut": self._cut,
            "answers held": self._hold,
            "requests held": self._hold,
            "broker killed": self._end_broker,
            "broker ended": self._end_broker,
            "broker stopped": self._stop_broker,
            "bus cut": self._cut_bus,
            "bus held": self._hold_bus,
        }

    async def strike(self, faults: list[Fault]) -> None:
        """Let all of it happen, and end."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(max(0.0, began + fault.at_s - loop.time()))
                group.create_task(self._strike(fault))

    async def _strike(self, fault: Fault) -> None:
        await self._kinds[fault.kind](fault, random.Random(fault.seed))

    def _victim(self, fault: Fault) -> Resident:
        residents = list(self._town.residents.values())
        return residents[int(fault.chance * len(residents))]

    def _tell(self, fault: Fault, whom: str = "") -> None:
        self._say(f"{fault}{f': {whom}' if whom else ''}")

    async def _down(self, fault: Fault, number: signal.Signals) -> None:
        one = self._victim(fault)
        async with self._restarting:
            self._tell(fault, one.name)
            await one.end(number)
        await asyncio.sleep(fault.lasts_s)
        one.start()

    async def _kill(self, fault: Fault, _: random.Random) -> None:
        await self._down(fault, signal.SIGKILL)

    async def _end(self, fault: Fault, _: random.Random) -> None:
        await self._down(fault, signal.SIGTERM)

    async def _pause(self, fault: Fault, _: random.Random) -> None:
        one = self._victim(fault)
        self._tell(fault, one.name)
        one.tell(signal.SIGSTOP)
        await asyncio.sleep(fault.lasts_s)
        one.tell(signal.SIGCONT)

    async def _restart_all(self, fault: Fault, draw: random.Random) -> None:
        number = draw.choice([signal.SIGKILL, signal.SIGTERM])
        async with self._restarting:
            self._tell(fault, number.name)
            await self._town.end(number)
            await self._town.start(draw, within_s=fault.lasts_s)

    async def _clock(self, fault: Fault, _: random.Random) -> None:
        one = self._victim(fault)
        self._tell(fault, one.name)
        one.skew(fault.skew_s)
        await asyncio.sleep(fault.lasts_s)
        one.skew(0.0)

    async def _fill(self, fault: Fault, _: random.Random) -> None:
        if self._disk is None:
            return
        async with self._database:  # a server does not start without room
            self._tell(fault)
            filler = self._disk / "filler"
            for size in (1 << 20, 4096):  # the last pages, too
                with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
                    while True:
                        file.write(bytes(size))
            await asyncio.sleep(fault.lasts_s)
            filler.unlink()
            if self._server is not None and not self._server.running:
                self._server.start()  # it has ended, as it could not write its log

    async def _stop_database(self, fault: Fault, _: random.Random) -> None:
        assert self._server is not None
        async with self._database:
            self._tell(fault)
            if fault.kind == "database killed":
                self._server.kill()
            else:
                self._server.stop(signal.SIGQUIT)
            await asyncio.sleep(fault.lasts_s)
            self._server.start()  # in this thread: it ends with the thread that started it

    def _proxy(self, fault: Fault) -> tuple[str, CuttingProxy]:
        names = sorted(self._proxies)
        name = names[fault.seed % len(names)]
        return name, self._proxies[name]

    async def _cut(self, fault: Fault, draw: random.Random) -> None:
        name, proxy = self._proxy(fault)
        only = draw.choice(["COMMIT\0", ""])
        hows = draw.sample(HOWS, draw.randint(1, len(HOWS)))
        self._tell(fault, f"to {name}, {', '.join(hows)}")
        await proxy.tell(hows=hows, chance=draw.uniform(0.05, 0.5), only=only)
        await asyncio.sleep(fault.lasts_s)
        await proxy.tell()

    async def _hold(self, fault: Fault, _: random.Random) -> None:
        name, proxy = self._proxy(fault)
        self._tell(fault, f"to {name}")
        await proxy.tell(held="down" if fault.kind == "answers held" else "up")
        await asyncio.sleep(fault.lasts_s)
        await proxy.tell()

    async def _end_broker(self, fault: Fault, _: random.Random) -> None:
        assert self._broker is not None
        async with self._bus:
            self._tell(fault)
            killed = fault.kind == "broker killed"
            await self._broker.end(signal.SIGKILL if killed else signal.SIGTERM)
            await asyncio.sleep(fault.lasts_s)
            await self._broker.start()

    async def _stop_broker(self, fault: Fault, _: random.Random) -> None:
        assert self._broker is not None
        async with self._bus:
            self._tell(fault)
            self._broker.tell(signal.SIGSTOP)
            await asyncio.sleep(fault.lasts_s)
            self._broker.tell(signal.SIGCONT)

    async def _cut_bus(self, fault: Fault, draw: random.Random) -> None:
        assert self._broker is not None
        self._tell(fault)
        loop = asyncio.get_running_loop()
        until = loop.time() + fault.lasts_s
        while loop.time() < until:
            self._broker.line.cut()
            await asyncio.sleep(draw.uniform(0.01, 0.5))

    async def _hold_bus(self, fault: Fault, _: random.Random) -> None:
        assert self._broker is not None
        async with self._bus:
            self._tell(fault)
            self._broker.line.hold()
            await asyncio.sleep(fault.lasts_s)
            self._broker.line.let_go()

    async def heal(self, draw: random.Random) -> None:
        """See that everything runs, and that nothing is wrong any more."""
        for proxy in self._proxies.values():
            await proxy.tell()
        for one in self._town.residents.values():
            one.tell(signal.SIGCONT)
            one.skew(0.0)
        await self._town.start(draw, within_s=0.5)


@contextlib.contextmanager
def small_disk(kept: Path) -> Iterator[Path | None]:
    """Mount a file system of a bounded size; None without the right to.

    What is on it when the block fails is copied to ``kept``.
    """
    if os.geteuid() != 0:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="chaos-disk"))
    options = f"size={_DISK_MB}m,mode=777"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        folder.rmdir()
        yield None
        return
    try:
        yield folder
    except BaseException:
        subprocess.run(["cp", "-a", folder, kept], check=True)
        raise
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()
