"""A client of the bank as an outsider would write it: plain HTTP, keys, retries, tokens."""

import asyncio
import time
from typing import Any

import aiohttp
import msgspec

from play.witness import Witness

TOKEN = "Headwater-Consistency-Token"
_AGAIN = (502, 503, 504)


class Refused(Exception):
    """The bank answered with a problem document that repeating would not change."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status} {problem.get('code')}: {problem.get('detail')}")
        self.status = status
        self.code = problem.get("code", "")


class Timings:
    """What was measured: latencies in seconds of commands, queries, and of becoming visible."""

    def __init__(self) -> None:
        self.commands: list[float] = []
        self.queries: list[float] = []
        self.visible: list[float] = []
        self.repeated = 0


class Caller:
    """Calls the gateway; repeats what may be repeated, for at most ``patience_s`` seconds."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: str,
        timings: Timings,
        witness: Witness,
        *,
        patience_s: float = 60,
    ) -> None:
        self._session = session
        self._base = base
        self._timings = timings
        self._witness = witness
        self._patience_s = patience_s

    async def command(
        self, path: str, content: dict[str, Any], *, key: str, token: str = ""
    ) -> str:
        """Send a command; return its consistency token.

        Raises:
            Refused: the bank said no.
            TimeoutError: the bank gave no answer for too long.
        """
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        if token:
            headers[TOKEN] = token
        began = time.perf_counter()
        answer = await self._call("POST", path, headers, content)
        self._timings.commands.append(time.perf_counter() - began)
        return str(answer["token"])

    async def query(self, path: str, *, token: str = "") -> Any:
        """Ask; with a token the answer includes what the command of that token did."""
        headers = {TOKEN: token} if token else {}
        began = time.perf_counter()
        answer = await self._call("GET", path, headers, None)
        took = time.perf_counter() - began
        (self._timings.visible if token else self._timings.queries).append(took)
        return answer

    async def _call(
        self, method: str, path: str, headers: dict[str, str], content: dict[str, Any] | None
    ) -> Any:
        until = time.monotonic() + self._patience_s
        pause_s = 0.05
        while True:
            try:
                status, answer = await self._attempt(method, path, headers, content)
                if status < 400:
                    return answer
                if status not in _AGAIN:
                    raise Refused(status, answer)
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
                answer = {"detail": repr(error)}
            if time.monotonic() > until:
                message = f"{method} {path}: no answer within {self._patience_s} s: {answer}"
                raise TimeoutError(message)
            self._timings.repeated += 1
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)

    async def _attempt(
        self, method: str, path: str, headers: dict[str, str], content: dict[str, Any] | None
    ) -> tuple[int, Any]:
        """Send a request once; return the status and content of its answer."""
        body = None if content is None else msgspec.json.encode(content)
        key, token = headers.get("Idempotency-Key", ""), headers.get(TOKEN, "")
        with self._witness.attempt(path, content, key=key, token=token) as attempt:
            headers = {**headers, **attempt.headers}
            async with self._session.request(
                method, self._base + path, data=body, headers=headers
            ) as response:
                answer = msgspec.json.decode(await response.read())
                attempt.answered(response.status, answer)
                return response.status, answer
