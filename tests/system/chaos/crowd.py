"""The clients of the bank: they repeat what got no answer, or give up; they remember tokens."""

import asyncio
import random
from typing import Any

import aiohttp
import msgspec

from play.caller import TOKEN
from play.witness import Witness

_GIVES_UP = 0.15
_SENDS_TWICE = 0.1
_SENDS_AGAIN = 0.05
_TIMEOUT_S = (0.05, 4.0)
_CUSTOMERS_MAX = 60
_FIRST = 3


class Crowd:
    """Several clients that open accounts, pay in, take out, transfer and look, all at once.

    Attributes:
        witness: what was asked and answered.
        answers: how often which status was answered; 0 for none.
    """

    def __init__(self, gateway: str, seed: int) -> None:
        """Call a gateway."""
        self.witness = Witness()
        self.answers: dict[int, int] = {}
        self._gateway = gateway
        self._seed = seed
        self._accounts: list[str] = []
        self._numbers = 0
        self._up, self._stop = asyncio.Event(), asyncio.Event()

    async def live(self, *, clients: int) -> None:
        """Go on until `leave`, and until whoever is waiting for an answer has it."""
        timeout = aiohttp.ClientTimeout(total=30.0)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            for number in range(clients):
                draw = random.Random(f"{self._seed} {number}")
                group.create_task(_Client(self, session, draw).live())

    async def wait_for_first(self, seconds_max: float) -> None:
        """Wait until there are a few accounts: the bank has come up."""
        await asyncio.wait_for(self._up.wait(), seconds_max)

    def leave(self) -> None:
        """Let everybody finish what is begun."""
        self._stop.set()

    async def pause(self, seconds: float) -> bool:
        """Wait; return whether to go on."""
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return True
        return False

    def number(self) -> int:
        """Return a number that nobody else has."""
        self._numbers += 1
        return self._numbers

    async def send(
        self,
        session: aiohttp.ClientSession,
        path: str,
        content: dict[str, Any] | None,
        *,
        key: str = "",
        token: str = "",
        timeout_s: float,
    ) -> tuple[int, Any]:
        """Send a request once; return status and content, or 0 when there was no answer in time."""
        status, answer = 0, None
        with self.witness.attempt(path, content, key=key, token=token) as attempt:
            headers = {**attempt.headers, **({TOKEN: token} if token else {})}
            body = None
            if content is not None:
                headers |= {"Idempotency-Key": key, "Content-Type": "application/json"}
                body = msgspec.json.encode(content)
            try:
                async with (
                    asyncio.timeout(timeout_s),
                    session.request(
                        "GET" if body is None else "POST",
                        self._gateway + path,
                        data=body,
                        headers=headers,
                    ) as response,
                ):
                    text = await response.read()
                    status = response.status
                    answer = msgspec.json.decode(text) if text else None
                    attempt.answered(status, answer)
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
                pass  # nobody knows
        self.answers[status] = self.answers.get(status, 0) + 1
        return status, answer

    def opened(self, account: str) -> None:
        """Let everybody use an account."""
        self._accounts.append(account)
        if len(self._accounts) >= _FIRST:
            self._up.set()

    def some(self, draw: random.Random) -> str:
        """Return an account."""
        return draw.choice(self._accounts) if self._accounts else "nobody"

    @property
    def full(self) -> bool:
        """Whether there are customers enough."""
        return len(self._accounts) >= _CUSTOMERS_MAX


class _Client:
    def __init__(self, crowd: Crowd, session: aiohttp.ClientSession, draw: random.Random) -> None:
        self._crowd, self._session, self._draw = crowd, session, draw
        self._tokens: dict[str, str] = {}

    async def live(self) -> None:
        """Do one thing after the other."""
        while await self._crowd.pause(self._draw.expovariate(20.0)):
            (act,) = self._draw.choices(
                [self._open, self._deposit, self._withdraw, self._transfer, self._look],
                [1 if self._crowd.full else 12, 25, 12, 20, 30],
            )
            await act()

    async def _command(
        self, path: str, content: dict[str, Any], *, key: str, token: str = ""
    ) -> str:
        """Send a command until it is answered, or give up; return its token, if any."""
        draw = self._draw
        while True:
            timeout_s = draw.uniform(*_TIMEOUT_S)
            sends = 2 if draw.random() < _SENDS_TWICE else 1
            attempts = [
                self._crowd.send(
                    self._session, path, content, key=key, token=token, timeout_s=timeout_s
                )
                for _ in range(sends)
            ]
            for status, answer in await asyncio.gather(*attempts):
                if 200 <= status < 500:
                    if draw.random() < _SENDS_AGAIN:
                        await self._crowd.send(
                            self._session, path, content, key=key, token=token, timeout_s=timeout_s
                        )
                    return str(answer["token"]) if status < 300 else ""
            if draw.random() < _GIVES_UP or not await self._crowd.pause(draw.uniform(0.0, 0.5)):
                return ""

    async def _open(self) -> None:
        customer = f"c{self._crowd.number()}"
        email = f"{customer}@customers.example"
        content = {"customer_id": customer, "name": customer, "email": email}
        token = await self._command("/customers", content, key=f"register-{customer}")
        if token:
            content = {"account_id": customer, "customer_id": customer}
            token = await self._command("/accounts", content, key=f"open-{customer}", token=token)
        if token:
            self._tokens[customer] = token
            self._crowd.opened(customer)

    async def _move(self, verb: str, cents_max: int) -> None:
        account, number = self._crowd.some(self._draw), self._crowd.number()
        content = {"amount": self._draw.randint(1, cents_max), "reference": f"{verb[0]}{number}"}
        token = await self._command(f"/accounts/{account}/{verb}s", content, key=f"{verb}-{number}")
        if token:
            self._tokens[account] = token

    async def _deposit(self) -> None:
        await self._move("deposit", 10_000)

    async def _withdraw(self) -> None:
        await self._move("withdrawal", 6_000)

    async def _transfer(self) -> None:
        draw, number = self._draw, self._crowd.number()
        target = "nobody" if draw.random() < 0.15 else self._crowd.some(draw)
        content = {
            "transfer_id": f"p{number}", "source": self._crowd.some(draw), "target": target,
            "amount": draw.randint(1, 8_000), "booked_on": "2026-01-15",
        }  # fmt: skip
        await self._command("/transfers", content, key=f"transfer-{number}")

    async def _look(self) -> None:
        account = self._crowd.some(self._draw)
        token = self._tokens.get(account, "") if self._draw.random() < 0.7 else ""
        await self._crowd.send(
            self._session, f"/accounts/{account}", None, token=token, timeout_s=8.0
        )
