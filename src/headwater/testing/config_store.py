"""The suites that every place of settings files passes.

A test module::

    class TestMySource(SettingsSourceConformance):
        @asynccontextmanager
        async def open_source(self, files):
            source = MySource(files)
            yield source, source.replace_all
            await source.close()

    class TestMyStore(SettingsStoreConformance):
        @asynccontextmanager
        async def open_pair(self):
            async with my_database() as url:
                yield MyStore(url), MyStore(url)
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import cast

import pytest

from headwater.config import SettingsSource, SettingsState, SettingsStore
from headwater.errors import ChangeNotFound, ConfigurationError, SettingsConflict
from headwater.messages import now_us

WAIT_S_MAX = 30.0

Contents = Mapping[str, bytes]
Opened = AbstractAsyncContextManager[tuple[SettingsSource, Callable[[Contents], Awaitable[None]]]]
Pair = AbstractAsyncContextManager[tuple[SettingsStore, SettingsStore]]

ONE: Contents = {"application.yml": b"a: 1\n"}
TWO: Contents = {"application.yml": b"a: 2\n", "eu/orders.toml": b"b = 2\n"}
THREE: Contents = {"application.yml": b"a: 3\n"}


async def reach(source: SettingsSource, state: SettingsState, contents: Contents) -> SettingsState:
    """Follow a source until it has these files; fail when it does not in time."""
    following = cast("AsyncGenerator[SettingsState, None]", source.follow(state))
    async with asyncio.timeout(WAIT_S_MAX), aclosing(following):
        async for later in following:
            if later.contents() == contents:
                return later
    raise AssertionError("the changes ended")


class SettingsSourceConformance:
    """Subclass it and say how to open a source, and how to replace all of its files at once."""

    pytestmark = pytest.mark.asyncio

    def open_source(self, files: Contents) -> Opened:
        """Open a source with these files; the context closes it."""
        raise NotImplementedError

    async def test_read(self) -> None:
        """What is there is read, byte by byte, also from folders; names are relative."""
        files = {
            "application.yml": "\ufeffa: Grüße\r\n".encode(),
            "eu/west/orders-dev.toml": b"b = 2\n",
            "empty.yaml": b"",
        }
        async with self.open_source(files) as (source, _):
            state = await source.read()
            assert state.contents() == files
            assert {name: file.name for name, file in state.files.items()} == {n: n for n in files}
            assert not state.error
            assert source.name

    async def test_nothing(self) -> None:
        """A place without files is no error, and is followed like any other."""
        async with self.open_source({}) as (source, change):
            state = await source.read()
            assert (state.contents(), state.error) == ({}, "")
            await change(ONE)
            await reach(source, state, ONE)

    async def test_follow(self) -> None:
        """Added, changed and removed files arrive."""
        async with self.open_source(ONE) as (source, change):
            state = await source.read()
            for files in (TWO, THREE, ONE):
                await change(files)
                state = await reach(source, state, files)

    async def test_follow_from_an_older_state(self) -> None:
        """Who follows from a state that is not the present one gets the present one first."""
        async with self.open_source(ONE) as (source, change):
            old = await source.read()
            await change(TWO)
            await reach(source, old, TWO)
            await reach(source, old, TWO)

    async def test_changed_together_is_seen_together(self) -> None:
        """No follower sees one file of a change without the others."""
        sets = [{f"f{n}.yml": b"v: %d\n" % v for n in range(8)} for v in range(6)]
        async with self.open_source(sets[0]) as (source, change):
            state = await source.read()
            for files in sets[1:]:
                await change(files)
                following = cast("AsyncGenerator[SettingsState, None]", source.follow(state))
                async with asyncio.timeout(WAIT_S_MAX), aclosing(following):
                    state = await anext(following)
                assert state.contents() == files

    async def test_close(self) -> None:
        """Closing twice is fine."""
        async with self.open_source(ONE) as (source, _):
            await source.read()
            await source.close()
            await source.close()


class SettingsStoreConformance(SettingsSourceConformance):
    """Subclass it and say how to open two views of one empty store, as two processes have them."""

    def open_pair(self) -> Pair:
        """Open them; the context closes them."""
        raise NotImplementedError

    @asynccontextmanager
    async def open_source(
        self, files: Contents
    ) -> AsyncIterator[tuple[SettingsSource, Callable[[Contents], Awaitable[None]]]]:
        """Follow with one view what the other one pushes."""
        async with self.open_pair() as (mine, other):

            async def change(files: Contents) -> None:
                await other.push(files, expected=(await other.read()).change)

            await change(files)
            yield mine, change

    async def test_push(self) -> None:
        """What one pushes another reads; the change says who, when, why and what."""
        async with self.open_pair() as (mine, other):
            began = now_us()
            first = await mine.push(ONE, expected=0, author="ann", comment="begin")
            second = await other.push(TWO, expected=1, author="bob", comment="more")
            third = await mine.push(THREE, expected=2)
            assert first
            assert second
            assert third
            assert [c.number for c in (first, second, third)] == [1, 2, 3]
            assert began - 1_000_000 <= first.time <= second.time <= third.time
            assert (first.author, first.comment, first.added) == ("ann", "begin", (*ONE,))
            assert (second.author, second.added) == ("bob", ("eu/orders.toml",))
            assert (second.changed, third.removed) == (("application.yml",), ("eu/orders.toml",))
            state = await other.read()
            assert (state.contents(), state.change) == (THREE, 3)
            assert mine.id == other.id

    async def test_files_know_their_change(self) -> None:
        """A file names the change that stored its content, not those that left it alone."""
        async with self.open_pair() as (mine, _):
            await mine.push({"a.yml": b"a: 1\n", "b.yml": b"b: 1\n"}, expected=0)
            await mine.push({"a.yml": b"a: 1\n", "b.yml": b"b: 2\n"}, expected=1)
            state = await mine.read()
            assert {name: file.change for name, file in state.files.items()} == {
                "a.yml": 1,
                "b.yml": 2,
            }

    async def test_equal_is_no_change(self) -> None:
        """Pushing what is stored already changes nothing, whatever was expected."""
        async with self.open_pair() as (mine, other):
            await mine.push(ONE, expected=0)
            assert await other.push(ONE, expected=0) is None
            assert await other.push(ONE, expected=1) is None
            assert [change.number for change in await other.history()] == [1]

    async def test_conflict(self) -> None:
        """Who expects another change than the latest is told by whom it was; nothing is stored."""
        async with self.open_pair() as (mine, other):
            await mine.push(ONE, expected=0, author="ann")
            for expected in (0, 2):
                with pytest.raises(SettingsConflict, match=r"at change 1 \(by ann\)") as failed:
                    await other.push(TWO, expected=expected)
                assert (failed.value.expected, failed.value.actual) == (expected, 1)
            assert (await mine.read()).contents() == ONE
            assert len(await mine.history()) == 1

    async def test_one_of_several_wins(self) -> None:
        """Of pushes that expect the same, one is stored; those who try again lose nothing."""
        async with self.open_pair() as pair:

            async def add(number: int, *, expected: int = -1) -> None:
                store = pair[number % 2]
                while True:
                    state = await store.read()
                    files = {**state.contents(), f"f{number}.yml": b"v: %d\n" % number}
                    known = state.change if expected < 0 else expected
                    try:
                        await store.push(files, expected=known)
                    except SettingsConflict:
                        if expected >= 0:
                            raise
                    else:
                        return

            async with asyncio.timeout(WAIT_S_MAX):
                first = [add(number, expected=0) for number in range(6)]
                outcomes = await asyncio.gather(*first, return_exceptions=True)
                lost = [n for n, outcome in enumerate(outcomes) if outcome is not None]
                assert len(lost) == 5
                assert all(isinstance(outcomes[number], SettingsConflict) for number in lost)
                await asyncio.gather(*map(add, lost))
            state = await pair[0].read()
            assert state.contents() == {f"f{n}.yml": b"v: %d\n" % n for n in range(6)}
            assert [change.number for change in await pair[1].history()] == [6, 5, 4, 3, 2, 1]

    @pytest.mark.parametrize(
        ("bad", "words"),
        [
            ({"x.yml": b"a: 1\nb: [\n"}, r"x\.yml:\d: "),
            ({"x.toml": b"a = 1\nb = \n"}, r"x\.toml:2: "),
            ({"x.yml": b"a: 1\n\xff"}, "not UTF-8"),
            ({"x.yml": b"a: 1\na: 2\n"}, r"x\.yml:2: key 'a' is given twice"),
            ({"x.json": b"{}"}, "is no name"),
            ({"../x.yml": b""}, "is no name"),
            ({"/x.yml": b""}, "is no name"),
            ({"a/.x.yml": b""}, "is no name"),
            ({"x.yml": b"", "x.toml": b""}, "has the same name: keep one of them"),
        ],
    )
    async def test_bad_files_are_refused(self, bad: Contents, words: str) -> None:
        """A bad file is refused with its reason, and the good ones beside it are not stored."""
        async with self.open_pair() as (mine, _):
            await mine.push(ONE, expected=0)
            with pytest.raises(ConfigurationError, match=words):
                await mine.push({**TWO, **bad}, expected=1)
            state = await mine.read()
            assert (state.contents(), state.change) == (ONE, 1)

    async def test_history(self) -> None:
        """The newest change comes first; it can be limited, and asked for one file only."""
        async with self.open_pair() as (mine, other):
            assert await mine.history() == []
            pushed = [await mine.push(f, expected=n) for n, f in enumerate((ONE, TWO, THREE))]
            assert await other.history() == pushed[::-1]
            assert await other.history(limit=1) == pushed[2:]
            assert await other.history(file="eu/orders.toml") == [pushed[2], pushed[1]]
            assert await other.history(file="eu/orders.toml", limit=1) == [pushed[2]]
            assert await other.history(file="unknown.yml") == []

    async def test_every_state_can_be_read_again(self) -> None:
        """The files after any change are there for ever, also those that were removed later."""
        async with self.open_pair() as (mine, other):
            for number, files in enumerate((ONE, TWO, {}, THREE)):
                await mine.push(files, expected=number)
            found = [(await other.at(number)).contents() for number in range(5)]
            assert found == [{}, ONE, TWO, {}, THREE]
            assert (await other.at(2)).change == 2
            for number in (-1, 5, 10**30):
                with pytest.raises(ChangeNotFound, match="the latest is 4"):
                    await other.at(number)


__all__ = ["SettingsSourceConformance", "SettingsStoreConformance", "reach"]
