"""How far a processor's views are, wherever it runs; and waiting for them to reach a token."""

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping

from headwater.errors import NotCaughtUp
from headwater.messages import ConsistencyToken
from headwater.processing.handling.applier import Applier
from headwater.processing.handling.dead_letters import DeadLetter
from headwater.processing.running.claims import Claims
from headwater.processing.running.parked_events import ParkedEvents
from headwater.processing.running.why_behind import why_behind
from headwater.processing.sources.consistency import Consistency, consistency_of
from headwater.processing.sources.shards import close_iterator
from headwater.processing.sources.tokens import Token, token_of
from headwater.views import ViewStore


class Progress:
    """The committed tokens of a processor, as far as they are known here.

    What this process commits is known at once. While somebody waits and other processes work on
    some segments, the store is asked after each of its changes.
    """

    def __init__(self, applier: Applier, views: ViewStore, claims: Claims) -> None:
        """Know nothing yet. What is worked on here under ``claims`` is known by that alone."""
        self._name, self._code = applier.name, applier.code
        self._applier = applier
        self._source = source = applier.source
        self._views = views
        self._claims = claims
        self._parked = ParkedEvents(applier, views)
        self._tokens: dict[tuple[int, int], dict[int, Token]] = {}  # by generation and count
        self._consistency: Consistency = consistency_of(source)
        self._waiting: dict[asyncio.Future[None], ConsistencyToken] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self.generation = 0
        self.count = 0
        self.all_local = False  # this process commits all of it, and so knows all of it

    @property
    def tokens(self) -> Mapping[int, Token]:
        """The known tokens of the active generation, by segment."""
        return self._tokens.get((self.generation, self.count), {})

    def use(self, generation: int, count: int, *, all_local: bool = False) -> None:
        """Say which generation is the active one, how many segments it has, and who has them.

        Who has looked before a switch-over, and says so after it, is not listened to.
        """
        if generation < self.generation:
            return
        if self.all_local and not all_local and self._waiting:
            self._watching()
        self.all_local = all_local
        if (generation, count) != (self.generation, self.count):
            self._tokens = {
                of: tokens
                for of, tokens in self._tokens.items()
                if of == (generation, count) or of[0] > generation
            }
        if generation != self.generation:
            self._consistency = consistency_of(self._source)
        self.generation, self.count = generation, count
        self._notify()

    def forget(self) -> None:
        """Forget how far the views are: it was in a log that is not there any more."""
        self._tokens.clear()
        self.all_local = False
        self._consistency = consistency_of(self._source)

    def moved(self, generation: int, count: int, indices: Collection[int], token: Token) -> None:
        """Note a committed token of some of ``count`` segments."""
        tokens = self._tokens.setdefault((generation, count), {})
        for index in indices:
            tokens[index] = token
        if self._waiting and (generation, count) == (self.generation, self.count):
            self._notify()

    async def wait_for(self, token: ConsistencyToken, *, timeout_s: float) -> None:
        """Return when the views show everything up to a token.

        Costs no I/O when that is known here already. Sources that the processor does not follow are
        ignored: callers send the token of whatever they did last. An event that was parked and
        then dropped counts as shown: somebody has decided that these views go without it. May be
        cancelled at any time.

        Args:
            token: what is to be seen.
            timeout_s: how long to wait.

        Raises:
            NotCaughtUp: not within ``timeout_s``.
            EventParked: the views have passed what the token names, but it is parked. (What waits
                for its next try is waited for.)
            TokenMismatch: the token was issued by a store that was replaced.
            MalformedMessage: the token names a shard that there is not.
        """
        begun = time.monotonic()
        if not self._covers(token):
            await self._reach(token, timeout_s)
        if any(known.parked for known in self.tokens.values()):
            letter = await self._parked.check(self.tokens, token)
            if letter is not None:
                await self._retried(token, letter, begun, timeout_s)

    async def _retried(
        self, token: ConsistencyToken, letter: DeadLetter, begun: float, timeout_s: float
    ) -> None:
        """Wait until nothing that a token names waits for its next try."""
        waiting: DeadLetter | None = letter
        changes = self._views.changes()
        try:
            async with asyncio.timeout(begun + timeout_s - time.monotonic()):
                async for _ in changes:
                    waiting = await self._parked.check(self.tokens, token)
                    if waiting is None:
                        return
                    letter = waiting
        except TimeoutError:
            event = letter.event
            position = 0 if event is None else event.position
            raise NotCaughtUp(
                processor=self._name,
                position=position - 1,
                expected=position,
                waited_s=time.monotonic() - begun,
                why=f" ({letter.sequence!r} waits for its next try: {letter.error})",
            ) from None
        finally:
            await close_iterator(changes)

    async def _reach(self, token: ConsistencyToken, timeout_s: float) -> None:
        """Wait until a token is covered."""
        begun = time.monotonic()
        reached = asyncio.get_running_loop().create_future()
        self._waiting[reached] = token
        try:
            async with asyncio.timeout(timeout_s):
                complete = 0 < self.count <= len(self.tokens)
                if not (self.all_local and complete and self._consistency.pure):
                    await self._ask()
                await reached
        except TimeoutError:
            position, expected = self._consistency.gap(self.tokens, token)
            waited_s = time.monotonic() - begun
            raise NotCaughtUp(
                processor=self._name,
                position=position,
                expected=expected,
                waited_s=waited_s,
                why=await why_behind(self._applier, self._views, token),
            ) from None
        finally:
            self._waiting.pop(reached, None)

    async def close(self) -> None:
        """Stop watching."""
        for task in (self._watcher, self._looking):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def _covers(self, token: ConsistencyToken) -> bool:
        complete = 0 < self.count <= len(self.tokens)
        return complete and self._consistency.covers(self.tokens, token)

    def _notify(self) -> None:
        for waiter, token in list(self._waiting.items()):
            if waiter.done():
                continue
            try:
                if self._covers(token):
                    waiter.set_result(None)
            except Exception as error:  # noqa: BLE001  # it belongs to who waits
                waiter.set_exception(error)

    async def _ask(self) -> None:
        """Look at the store now, together with all who ask now, and after each change."""
        if self._watching():
            return  # it looks at once
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look_for_all())
        await asyncio.shield(self._looking)

    def _watching(self) -> bool:
        """See to it that the store is watched; return whether that begins only now."""
        if self._watcher is not None and not self._watcher.done():
            return False
        self._watcher = asyncio.ensure_future(self._follow())
        return True

    async def _follow(self) -> None:
        """Look after each change of the store, as long as somebody waits."""
        changes = self._views.changes()
        try:
            async for _ in changes:
                if not self._waiting:
                    self._watcher = None  # from here on who waits needs a new one
                    return
                await self._look_for_all()
        except Exception as error:  # noqa: BLE001  # it belongs to those who wait
            self._fail(error)
        finally:
            await close_iterator(changes)

    async def _look_for_all(self) -> None:
        try:
            await self.look()
            for token in list(self._waiting.values()):
                await self._consistency.look(self.tokens, token)
        except Exception as error:  # noqa: BLE001  # it belongs to those who wait
            self._fail(error)
        self._notify()

    def _fail(self, error: Exception) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(error)

    async def look(self) -> None:
        """Read the tokens of the active generation from the store."""
        found = await self._views.segments(self._name)
        code = self._code
        generation = await self._views.generation(self._name, code=code)  # after: see `segments`
        segments = [s for s in found if s.generation == generation]
        tokens = self._tokens.setdefault((generation, len(segments)), {})
        for segment in segments:
            token = token_of(segment.token)
            if self._claims.outdate(segment):
                continue
            if not token.successor:  # one that was replaced keeps what is known of it
                tokens[segment.index] = self._source.restrict(token, {segment.index}, segment.count)
        self.use(generation, len(segments), all_local=self.all_local)
