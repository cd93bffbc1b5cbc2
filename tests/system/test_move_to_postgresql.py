"""What the page on moving to PostgreSQL tells people to type moves the bank."""

import asyncio
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.postgres_server import PostgresServer
from tests.system.walkthrough import system_in

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/move-to-postgresql.md"
DATABASE = "postgresql://bank@localhost/bank?"
TOKEN, KEY = "headwater-consistency-token", "idempotency-key"


def commands(title: str) -> list[str]:
    """Return the headwater commands of a section of the page."""
    section = PAGE.read_text().split(f"\n## {title}\n")[1].partition("\n## ")[0]
    return re.findall(r"^\$ (headwater .*)$", section, re.MULTILINE)


async def run_all(lines: list[str], bank: Path, database: str) -> list[str]:
    """Run commands as typed, but for the database's address; return what each printed."""
    printed = []
    for line in lines:
        words = [word.replace(DATABASE, database) for word in shlex.split(line)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headwater.cli", *words[1:]),
            cwd=bank,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, error = await process.communicate()
        assert process.returncode == 0, f"{line}\n{error.decode()}"
        printed.append(output.decode())
    return printed


class Caller:
    """Calls the bank, and carries the last token on."""

    def __init__(self, gateway: str, session: aiohttp.ClientSession, token: str = "") -> None:
        self._gateway = gateway
        self._session = session
        self.token = token

    async def send(self, path: str, content: dict[str, Any], key: str = "") -> dict[str, Any]:
        headers = {KEY: key} if key else {}
        url = f"{self._gateway}{path}"
        async with self._session.post(url, json=content, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            self.token = answer.headers[TOKEN]
            outcome: dict[str, Any] = await answer.json()
            return outcome

    async def balance(self, account: str) -> int:
        """Return the balance, as of the last token."""
        url, headers = f"{self._gateway}/accounts/{account}", {TOKEN: self.token}
        async with self._session.get(url, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return int((await answer.json())["balance"])

    async def settled(self, transfer: str) -> None:
        """Wait until a transfer is over."""
        async with asyncio.timeout(30):
            while True:
                async with self._session.get(f"{self._gateway}/transfers/{transfer}") as answer:
                    if answer.status == 200 and "completed" in (await answer.text()).lower():
                        return
                await asyncio.sleep(0.05)


async def transfer(caller: Caller, id: str, amount: int) -> None:
    """Transfer between the two accounts, to the end."""
    ends = {"source": "eve-1", "target": "shop"}
    content = {"transfer_id": id, **ends, "amount": amount, "booked_on": "2026-11-23"}
    await caller.send("/transfers", content)
    await caller.settled(id)


@pytest.mark.timeout(300)
async def test_bank_moves(tmp_path: Path, own_postgres: PostgresServer) -> None:
    """Copied while it runs, stopped, copied, checked and switched, the bank goes on; and back."""
    bank, database = tmp_path / "bank", f"{own_postgres.url()}&"
    shutil.copytree(ROOT / "examples/bank", bank, ignore=shutil.ignore_patterns(".headwater"))
    copy, check = commands("2. Copy, while the bank is running"), commands("4. Check")
    assert len(copy) == len(check) == 3
    async with aiohttp.ClientSession() as session:
        async with system_in(bank) as gateway:
            caller = Caller(gateway, session)
            eve = {"customer_id": "eve", "name": "Eve", "email": "eve@example.org"}
            await caller.send("/customers", eve)
            for account in ("eve-1", "shop"):
                await caller.send("/accounts", {"account_id": account, "customer_id": "eve"})
            await caller.send("/accounts/eve-1/deposits", {"amount": 5000}, key="first")
            await run_all(copy, bank, database)
            await transfer(caller, "t1", 1999)
            await caller.send("/accounts/eve-1/deposits", {"amount": 1}, key="second")
        await run_all(copy, bank, database)
        checked = await run_all(check, bank, database)
        assert all(text.startswith("equal: ") for text in checked)
        assert "equal: 0 events" not in "".join(checked)
        switch = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        with (bank / "headwater.toml").open("a") as file:
            file.write(f"\n{''.join(switch).replace(DATABASE, database)}")
        files = {file: file.read_bytes() for file in bank.glob(".headwater/*/events.db")}
        assert len(files) >= 3
        async with system_in(bank) as gateway:
            caller = Caller(gateway, session, token=caller.token)
            assert await caller.balance("eve-1") == 5000 - 1999 + 1
            for key, amount in (("first", 5000), ("second", 1)):
                again = await caller.send("/accounts/eve-1/deposits", {"amount": amount}, key=key)
                assert again["duplicate"] is True
            await transfer(caller, "t2", 2)
            await caller.send("/accounts/eve-1/deposits", {"amount": 100})
            assert await caller.balance("eve-1") == 5000 - 1999 + 1 - 2 + 100
        assert all(file.read_bytes() == content for file, content in files.items())
    back = commands("The way back")
    (report,) = await run_all([f"{line} --json" for line in back], bank, database)
    assert 0 < json.loads(report)["began"] < json.loads(report)["position"]
    await run_all([f"{line} --check" for line in back], bank, database)
