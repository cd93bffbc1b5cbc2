"""Judges what is left: the logs against what was answered, and the views against the logs."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from headwater.errors import StoreUnavailable
from headwater.eventbus import WATERMARK
from headwater.processing.sagas.views import PendingCommand, SagaState
from headwater.service.engines import open_event_bus, open_event_store, open_view_store
from play.witness import SERVICES, Witness
from tests.integration.eventbus.bus_system import everything, first_seen
from tests.system.chaos.town import Town

_LOOK_AGAIN_S = 0.5
_PATIENCE_S = 60.0

Events = list[tuple[str, dict[str, Any]]]
View = dict[str, Any]


class Books:
    """What the bank should show, folded from its logs without any of its code."""

    def __init__(self, logs: dict[str, Events]) -> None:
        """Fold the logs of all services."""
        self.accounts: dict[str, View] = {}
        self.customers: dict[str, View] = {}
        self.transfers: dict[str, View] = {}
        self.turnover: Counter[str] = Counter()
        self.spending: dict[str, View] = defaultdict(lambda: {"amount": 0, "transfers": 0})
        self.moves: dict[str, Counter[str]] = defaultdict(Counter)
        for events in logs.values():
            for kind, content in events:
                if (fold := getattr(self, f"_on_{kind}", None)) is not None:
                    fold(content)

    def _on_CustomerRegistered(self, e: View) -> None:  # noqa: N802  # named after the events
        self.customers[e["customer_id"]] = {"name": e["name"], "email": e["email"]}

    def _on_AccountOpened(self, e: View) -> None:  # noqa: N802
        opened = {"customer_id": e["customer_id"], "balance": 0, "movements": 0, "open": True}
        self.accounts[e["account_id"]] = opened

    def _moved(self, e: View, cents: int) -> None:
        view = self.accounts[e["account_id"]]
        view["balance"] += cents
        view["movements"] += 1
        self.moves[e["reference"]]["in" if cents > 0 else "out"] += 1

    def _on_MoneyDeposited(self, e: View) -> None:  # noqa: N802
        self._moved(e, e["amount"])

    def _on_MoneyWithdrawn(self, e: View) -> None:  # noqa: N802
        self._moved(e, -e["amount"])

    def _on_TransferRequested(self, e: View) -> None:  # noqa: N802
        asked = {name: e[name] for name in ("source", "target", "amount", "booked_on")}
        self.transfers[e["transfer_id"]] = {**asked, "status": "requested", "settlements": 0}

    def _on_TransferCompleted(self, e: View) -> None:  # noqa: N802
        self._settled(e, "completed")
        self.turnover[e["target"]] += e["amount"]
        self.spending[e["source"]]["amount"] += e["amount"]
        self.spending[e["source"]]["transfers"] += 1

    def _on_TransferFailed(self, e: View) -> None:  # noqa: N802
        self._settled(e, "failed")

    def _settled(self, e: View, status: str) -> None:
        self.transfers[e["transfer_id"]]["status"] = status
        self.transfers[e["transfer_id"]]["settlements"] += 1

    def errors(self) -> Iterator[str]:
        """Say which transfers have not ended well: settled once, with the money in one place."""
        for name, view in self.transfers.items():
            moves = (self.moves[name]["out"], self.moves[name]["in"])
            allowed = {"completed": {(1, 1)}, "failed": {(0, 0), (1, 1)}}
            if view["settlements"] != 1 or moves not in allowed.get(view["status"], ()):
                how = f"{view['status']} {view['settlements']} times"
                yield f"transfer {name}: {how}, out and in {moves}"
        below = [name for name, view in self.accounts.items() if view["balance"] < 0]
        if below:
            yield f"accounts below zero: {below}"


async def settle(town: Town) -> tuple[list[str], float]:
    """Wait until nothing is wrong any more; return what still is, and how long it took, seconds."""
    began = time.monotonic()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10.0)) as session:
        while True:
            wrong = await _wrong(town, session)
            took_s = time.monotonic() - began
            if not wrong or took_s > _PATIENCE_S:
                return wrong, took_s
            await asyncio.sleep(_LOOK_AGAIN_S)


async def judge(town: Town, witness: Witness) -> list[str]:
    """Return in what the answers contradict the logs."""
    verdict = await witness.judge({name: town.store_url(name) for name in SERVICES})
    return [str(violation) for violation in verdict.violations]


async def _wrong(town: Town, session: aiohttp.ClientSession) -> list[str]:
    """Return what is wrong now: who is not ready, what is not ended, which views differ."""
    found = [error async for error in _not_ready(town, session)]
    if found:
        return found
    try:
        books = Books({name: await _log(town.store_url(name)) for name in SERVICES})
        found += books.errors()
        found += await _open_ends(town)
        for one in town.instances():
            if one.part.role != "command":
                found += await _compare(session, f"http://127.0.0.1:{one.port}", one.part, books)
        if town.has_broker and not found:
            found += await _bus_errors(town)
    except (OSError, aiohttp.ClientError, TimeoutError, StoreUnavailable) as error:
        found.append(repr(error))
    return found


async def _bus_errors(town: Town) -> list[str]:
    """Say of which service a reader of the bus misses events, or finds them out of order."""
    bus = await open_event_bus(town.bus_url(), partitions=town.system.bus.partitions)
    try:
        seen = first_seen([one for one in await everything(bus) if one.event.type != WATERMARK])
    finally:
        await bus.close()
    found = []
    for name in SERVICES:
        stored = range(1, len(await _log(town.store_url(name))) + 1)
        read = sorted(event.position for event in seen if event.source == name)
        if read != list(stored):
            lost = sorted(set(stored) - set(read))[:5]
            found.append(f"of {name} {len(read)} of {len(stored)} are on the bus, without {lost}")
    return found


async def _not_ready(town: Town, session: aiohttp.ClientSession) -> Any:
    places = {one.name: f"http://127.0.0.1:{one.port}/health/ready" for one in town.instances()}
    for name, url in places.items():
        try:
            async with session.get(url) as response:
                if response.status != 200:
                    yield f"{name} is not ready: {await response.text()}"
        except (aiohttp.ClientError, TimeoutError) as error:
            yield f"{name} is not ready: {error!r}"
    for service in town.system.services:
        path = f"{town.gateway}/services/{service}/health/ready"
        try:
            async with session.get(path) as response:
                if response.status != 200:
                    yield f"through the gateway {service} answers {response.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            yield f"the gateway is away: {error!r}"


async def _log(url: str) -> Events:
    store = await open_event_store(url)
    try:
        return [
            (event.type, msgspec.json.decode(event.data))
            async for page in store.read()
            for event in page.events
        ]
    finally:
        await store.close()


async def keep_logs(town: Town, folder: Path) -> None:
    """Write the logs of all services down, one event a line: `transfers.jsonl` and so on."""
    for name in SERVICES:
        store = await open_event_store(town.store_url(name))
        try:
            with (folder / f"{name}.jsonl").open("wb") as kept:
                async for page in store.read():
                    for event in page.events:
                        content, about = msgspec.Raw(event.data), msgspec.Raw(event.metadata)
                        line = (event.position, event.time, event.stream, event.type)
                        kept.write(msgspec.json.encode((*line, content, about)) + b"\n")
        finally:
            await store.close()


async def _open_ends(town: Town) -> list[str]:
    views = await open_view_store(town.views_url("transfers"))
    try:
        sagas, commands = await views.count(SagaState), await views.count(PendingCommand)
    finally:
        await views.close()
    return (
        [f"{sagas} sagas have not ended, {commands} commands are unsent"]
        if sagas or commands
        else []
    )


async def _compare(session: aiohttp.ClientSession, base: str, part: Any, books: Books) -> list[str]:
    """Return in what the views of one instance differ from the books."""

    async def get(path: str) -> Any:
        async with session.get(base + path) as response:
            assert response.status in {200, 404}, (path, response.status, await response.text())
            return msgspec.json.decode(await response.read()) if response.status == 200 else None

    match part.service:
        case "accounts":
            items = (await get("/accounts?limit=10000"))["items"]
            shown = {item.pop("id"): item for item in items}
            pairs = [(shown, books.accounts)]
        case "customers":
            customers = await get("/customers?limit=1000")
            shown = {one["id"]: {"name": one["name"], "email": one["email"]} for one in customers}
            pairs = [(shown, books.customers)]
        case "transfers":
            shown = {}
            for source in {view["source"] for view in books.transfers.values()}:
                for one in await get(f"/transfers?source={source}&limit=10000"):
                    wanted = ("source", "target", "amount", "booked_on", "status", "settlements")
                    shown[one["id"]] = {name: one[name] for name in wanted}
            pairs = [(shown, books.transfers)]
        case _:
            turnover = {}
            for account in books.turnover:
                months = await get(f"/insights/turnover/{account}")
                turnover[account] = sum(month["amount"] for month in months)
            top = await get("/insights/top-customers?limit=1000")
            spending = {
                one["id"]: {"amount": one["amount"], "transfers": one["transfers"]} for one in top
            }
            pairs = [(turnover, dict(books.turnover)), (spending, dict(books.spending))]
    return [error for shown, wanted in pairs for error in _differences(part.name, shown, wanted)]


def _differences(name: str, shown: dict[str, Any], wanted: dict[str, Any]) -> Iterator[str]:
    differ = [key for key in shown.keys() | wanted.keys() if shown.get(key) != wanted.get(key)]
    if differ:
        key = min(differ)
        yield (
            f"{name} shows {len(differ)} of {len(wanted)} otherwise, such as {key!r}: "
            f"{shown.get(key)}, not {wanted.get(key)}"
        )
