"""Plays real purchases through the whole bank, kills parts of it meanwhile, and checks the books.

The processes of the bank are started in an order that is drawn, as no order may matter.

``python demo.py`` plays every tenth customer, ``python demo.py --full`` all of them; with
``--backend postgres`` all data is in PostgreSQL, else in files. With ``--bus rabbitmq``
or ``kafka`` events go over a broker, which is killed and started again, too.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from play.broker import Broker, broker
from play.caller import Caller, Timings
from play.checks import Check, check
from play.database import database
from play.player import Player
from play.purchases import Expected, Purchase, expect, read_purchases
from play.report import show_checks, show_measurements
from play.system import System
from play.witness import SERVICES, Witness

AT_ONCE = 32


async def play(
    system: System,
    purchases: dict[str, list[Purchase]],
    expected: Expected,
    console: Console,
    over: Broker | None = None,
) -> list[Check]:
    """Play all purchases, kill processes on the way, print what was measured; return checks."""
    timings, witness = Timings(), Witness()
    connector = aiohttp.TCPConnector(limit=AT_ONCE * 2)
    total = expected.purchases + expected.worthless
    async with aiohttp.ClientSession(connector=connector) as session:
        player = Player(Caller(session, system.gateway, timings, witness), purchases)
        began = time.perf_counter()
        with _progress(console) as progress:
            bar = progress.add_task("purchases", total=total)
            blows = {
                total // 4: lambda: system.kill("accounts", "command"),
                total // 2: system.kill_all,
                total * 3 // 4: lambda: system.kill("accounts", "query"),
            }
            if over is not None:
                blows[total * 3 // 8] = over.kill

            def step(count: int) -> None:
                progress.advance(bar, count)
                done = progress.tasks[0].completed
                for threshold in [t for t in blows if done >= t]:
                    progress.console.print(blows.pop(threshold)())

            await player.play(at_once=AT_ONCE, step=step)
        if over is not None:
            await over.back()
        played_s = time.perf_counter() - began
        console.print("all purchases are accepted; waiting until they are settled ...")
        patience_s = 60 + total / 50
        judge = Caller(session, system.gateway, Timings(), witness)
        checks = await check(judge, player, expected, purchases, patience_s=patience_s)
        settled_s = time.perf_counter() - began
        verdict = await witness.judge({name: system.store_url(name) for name in SERVICES})
        checks.append(Check("answers that contradict the logs", verdict.found, 0))
    show_measurements(
        console, timings, seconds=played_s, transfers=expected.purchases, settled_s=settled_s
    )
    console.print(str(verdict), highlight=False)
    return checks


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console)


async def run(*, every: int, backend: str, shuffle: int, bus: str = "") -> int:
    """Run the demo; return the exit code."""
    async with database(backend) as url, broker(bus) as over:
        return await run_on(url, every=every, shuffle=shuffle, over=over)


async def run_on(url: str, *, every: int, shuffle: int, over: Broker | None = None) -> int:
    """Run the demo on a database (empty: on files), and over a broker; return the exit code."""
    console = Console()
    purchases = read_purchases(every=every)
    expected = expect(purchases)
    console.print(
        f"{expected.customers:,} customers, {expected.purchases + expected.worthless:,} purchases, "
        f"${expected.cents / 100:,.2f}"
    )
    data = Path(tempfile.mkdtemp(prefix="headwater-bank-"))
    system = System(data, database=url, bus=over.url if over else "")
    passed = False
    try:
        await system.start(shuffle)
        kept = ("PostgreSQL" if url else "SQLite") + (f" and {over.name}" if over else "")
        console.print(
            f"the bank, on {kept}, is up at {system.gateway} after {system.started_in_s:.1f} s, "
            f"its processes started in an order that was drawn (--shuffle {shuffle})"
        )
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(system.ended())
            checks = await play(system, purchases, expected, console, over)
            watch.cancel()
        checks.append(Check("dead letters", await system.dead_letters(), 0))
        passed = show_checks(console, checks)
    except (RuntimeError, TimeoutError, AssertionError, ExceptionGroup) as error:
        cause: Exception = error
        while isinstance(cause, ExceptionGroup):
            cause = cause.exceptions[0]
        console.print(f"[red]failed:[/] {cause}")
    finally:
        code = await system.stop()
    if code:
        console.print(f"[red]the system ended with exit code {code}[/]")
    if passed and not code:
        shutil.rmtree(data)
        console.print("[green]The books are right, to the cent.[/]")
        return 0
    console.print(f"[red]Something is wrong.[/] The databases and the log are in {data}")
    return 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="play all customers")
    parser.add_argument("--every", type=int, default=10, help="play every n-th customer")
    parser.add_argument("--backend", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--bus", choices=("", "rabbitmq", "kafka"), default="")
    parser.add_argument("--shuffle", type=int, help="the number of an order of starting")
    options = parser.parse_args()
    every = 1 if options.full else options.every
    shuffle = random.randrange(1000) if options.shuffle is None else options.shuffle
    bank = run(every=every, backend=options.backend, shuffle=shuffle, bus=options.bus)
    sys.exit(asyncio.run(bank))
