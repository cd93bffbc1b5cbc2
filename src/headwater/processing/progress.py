"""How far a processor's views are, wherever it runs; and waiting for them to reach a token."""

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping

from headwater.errors import NotCaughtUp
from headwater.messages import ConsistencyToken
from headwater.processing.coverage import Coverage, coverage_of
from headwater.processing.sources import Source
from headwater.processing.tokens import Token, token_of
from headwater.views import ViewStore


class Progress:
    """The committed tokens of a processor, as far as they are known here.

    What this process commits is known at once. While somebody waits and other processes work on
    some segments, the store is asked after each of its changes.
    """

    def __init__(self, name: str, source: Source, views: ViewStore) -> None:
        """Know nothing yet."""
        self._name = name
        self._source = source
        self._views = views
        self._tokens: dict[int, dict[int, Token]] = {}  # by generation and segment
        self._coverage: Coverage = coverage_of(source)
        self._waiting: dict[asyncio.Future[None], ConsistencyToken] = {}
        self._watcher: asyncio.Task[None] | None = None
        self.generation = 0
        self.count = 0

    @property
    def tokens(self) -> Mapping[int, Token]:
        """The known tokens of the active generation, by segment."""
        return self._tokens.get(self.generation, {})

    def use(self, generation: int, count: int) -> None:
        """Say which generation is the active one, and how many segments it has."""
        if generation != self.generation:
            self._tokens = {g: t for g, t in self._tokens.items() if g >= generation}
            self._coverage = coverage_of(self._source)
        self.generation, self.count = generation, count
        self._notify()

    def moved(self, generation: int, indices: Collection[int], token: Token) -> None:
        """Note a committed token of some segments."""
        tokens = self._tokens.setdefault(generation, {})
        for index in indices:
            tokens[index] = token
        if self._waiting and generation == self.generation:
            self._notify()

    async def wait_for(self, token: ConsistencyToken, *, timeout_s: float) -> None:
        """Return when the views have seen everything up to a token.

        Costs no I/O when that is known here already. Sources that the processor does not follow
        are ignored. May be cancelled at any time.

        Raises:
            NotCaughtUp: not within ``timeout_s``.
            TokenMismatch: the token was issued by a store that was replaced.
        """
        if self._covers(token):
            return
        begun = time.monotonic()
        reached = asyncio.get_running_loop().create_future()
        self._waiting[reached] = token
        self._watch()
        try:
            async with asyncio.timeout(timeout_s):
                await reached
        except TimeoutError:
            position, expected = self._coverage.gap(self.tokens, token)
            raise NotCaughtUp(
                processor=self._name,
                position=position,
                expected=expected,
                waited_s=time.monotonic() - begun,
            ) from None
        finally:
            self._waiting.pop(reached, None)

    async def close(self) -> None:
        """Stop watching."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher

    def _covers(self, token: ConsistencyToken) -> bool:
        complete = 0 < self.count <= len(self.tokens)
        return complete and self._coverage.covers(self.tokens, token)

    def _notify(self) -> None:
        for waiter, token in list(self._waiting.items()):
            if waiter.done():
                continue
            try:
                if self._covers(token):
                    waiter.set_result(None)
            except Exception as error:  # noqa: BLE001  # it belongs to who waits
                waiter.set_exception(error)

    def _watch(self) -> None:
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.ensure_future(self._follow())

    async def _follow(self) -> None:
        """Ask the store after each of its changes, for as long as somebody waits."""
        changes = self._views.changes()
        try:
            async for _ in changes:
                await self.look()
                for token in list(self._waiting.values()):
                    await self._coverage.look(self.tokens, token)
                self._notify()
                if not self._waiting:
                    return
        except Exception as error:  # noqa: BLE001  # it belongs to those who wait
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_exception(error)
        finally:
            close = getattr(changes, "aclose", None)
            if close is not None:
                await close()

    async def look(self) -> None:
        """Read the tokens of the active generation from the store."""
        generation = await self._views.generation(self._name)
        segments = [s for s in await self._views.segments(self._name) if s.generation == generation]
        tokens = self._tokens.setdefault(generation, {})
        for segment in segments:
            token = token_of(segment.token)
            if not token.successor:  # one that was replaced keeps what is known of it
                tokens[segment.index] = self._source.restrict(token, {segment.index}, segment.count)
        self.use(generation, len(segments))
