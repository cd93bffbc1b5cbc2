"""Keys and indexed text that are too long for an index, on every engine."""

import asyncio
from typing import Annotated, Any

import aiohttp
import pytest

from headwater.messages import Command, Event, Query, Tag, route
from headwater.modelling import (
    Aggregate,
    Projection,
    command_handler,
    event_handler,
    event_sourcing_handler,
    query_handler,
)
from headwater.processing.handling.dead_letters import first_letter, letters, sequence_key_of
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.testing.eventstore_values import random_text
from headwater.views import Index, Key, View
from tests.postgres_server import POSTGRES

WAIT_S_MAX = 30.0


@route("POST /books")
class AddBook(Command):
    book_id: str
    author: str = ""
    title: str = ""


class BookAdded(Event):
    book_id: str
    author: Annotated[str, Tag("author")]
    title: str


class Book(Aggregate):
    title: str = ""

    @command_handler(creates=True)
    def add(self, command: AddBook) -> BookAdded:
        return BookAdded(command.book_id, command.author, command.title)

    @event_sourcing_handler
    def added(self, event: BookAdded) -> None:
        self.title = event.title


class BookView(View):
    id: Annotated[str, Key]
    title: Annotated[str, Index]


@route("GET /books/{book_id}")
class GetBook(Query[BookView]):
    book_id: str


class Books(Projection):
    @event_handler(BookView, key="book_id")
    def added(self, event: BookAdded) -> BookView:
        return BookView(event.book_id, event.title)

    @query_handler
    async def one(self, query: GetBook) -> BookView | None:
        return await self.views.get(BookView, query.book_id)


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
async def runtime(request, tmp_path):
    """A running instance on each engine."""
    given: dict[str, Any] = {"data": str(tmp_path)}
    if request.param != "sqlite":
        postgres = request.param == "postgres"
        url = request.getfixturevalue("postgres_url") if postgres else "memory:"
        given |= {"store": url, "views": url}
    service = Service("books", aggregates=[Book], projections=[Books])
    async with Runtime(service, given) as running:
        yield running


async def test_too_long_for_an_index(runtime: Runtime) -> None:
    """What a command brings is refused; a view that cannot be indexed parks its event, and is said.

    Nothing names an index, and everybody else goes on.
    """
    long = random_text(251, seed=1)
    async with aiohttp.ClientSession(runtime.url) as http:
        for wrong, told in (
            ({"book_id": long}, "must have 1 to 200 characters"),
            ({"book_id": "a", "author": long}, "bytes, at most 1000"),
        ):
            async with http.post("/books", json=wrong) as answer:
                problem = await answer.json(content_type=None)
                assert (answer.status, problem["outcome"]) == (400, "not stored"), problem
                assert told in problem["detail"]
                assert "index" not in problem["detail"]
        longest = random_text(200, seed=2)
        for fits in (
            {"book_id": longest, "author": random_text(240, seed=3)},
            {"book_id": "b", "title": long},
            {"book_id": "c", "title": random_text(250, seed=4)},
        ):
            async with http.post("/books", json=fits) as answer:
                assert answer.status == 200, await answer.text()
                token = answer.headers["headwater-consistency-token"]
        for book in (longest, "c"):
            headers = {"headwater-consistency-token": token}
            async with http.get(f"/books/{book}", headers=headers) as answer:
                assert answer.status == 200, await answer.text()
        assert runtime.views is not None
        async with asyncio.timeout(WAIT_S_MAX):
            (letter,) = [found async for found in letters(runtime.views, queue="books@1")]
        assert letter.sequence == "Book/b"
        assert "its title is" in letter.error
        assert "has 1004 bytes, and an index takes 1000" in letter.error
        assert await runtime.processors.problems() == {}


async def test_a_long_stream_can_be_parked(runtime: Runtime) -> None:
    """The letter of a stream with the longest possible name is kept and found."""
    book, title = random_text(200, seed=5), random_text(251, seed=6)
    async with aiohttp.ClientSession(runtime.url) as http:
        async with http.post("/books", json={"book_id": book, "title": title}) as answer:
            assert answer.status == 200, await answer.text()
        assert runtime.views is not None
        async with asyncio.timeout(WAIT_S_MAX):
            found: list[Any] = []
            while not found:
                found = [one async for one in letters(runtime.views, queue="books@1")]
                await asyncio.sleep(0.05)
        letter = await first_letter(runtime.views, sequence_key_of("books@1", f"Book/{book}"))
        assert letter == found[0]
