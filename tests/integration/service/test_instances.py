"""Instances of one service in a process, and what their handlers can reach."""

import asyncio
from typing import Annotated

import pytest

from headwater.dispatch import CommandMessage, CommandNext, CommandResult
from headwater.errors import ConfigurationError
from headwater.eventstore import NewEvent, StreamWrite
from headwater.messages import Command, Event, Query, new_metadata
from headwater.modelling import (
    Aggregate,
    EventHandlers,
    Projection,
    command_handler,
    event_handler,
    query_handler,
)
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.views import Key, View
from tests.integration.processing.conftest import until


class Note(Command):
    id: str
    text: str


class Noted(Event):
    id: str
    text: str


class Echo(Command):
    id: str


class Echoed(Event):
    id: str


class Notebook(Aggregate):
    @command_handler(creates="if_missing")
    def note(self, command: Note) -> Noted:
        return Noted(command.id, command.text)


class EchoBook(Aggregate):
    @command_handler(creates="if_missing")
    def echo(self, command: Echo) -> Echoed:
        return Echoed(command.id)


class NoteView(View):
    id: Annotated[str, Key]
    text: str = ""


class GetNote(Query[NoteView | None]):
    id: str


class Notes(Projection):
    def __init__(self) -> None:
        self.asked = 0

    @event_handler(NoteView, key="id")
    def noted(self, view: NoteView, event: Noted) -> None:
        view.text = event.text

    @query_handler
    async def note(self, query: GetNote) -> NoteView | None:
        self.asked += 1
        return await self.views.get(NoteView, query.id)


def make_service(*, given_object: bool = False) -> Service:
    """A service whose interceptor and event handler use its own buses."""

    async def asks_first(message: CommandMessage, proceed: CommandNext) -> CommandResult:
        if isinstance(message.command, Note):
            seen.append(await service.queries.ask(GetNote(message.command.id)))
        return await proceed(message)

    class Mailer(EventHandlers):
        start = "beginning"

        @event_handler
        async def noted(self, event: Noted) -> None:
            await service.commands.send(Echo(event.id), idempotency_key=f"echo {event.id}")

    seen: list[NoteView | None] = []
    service = Service(
        "notes",
        aggregates=[Notebook, EchoBook],
        projections=[Notes() if given_object else Notes],
        handlers=[Mailer],
        interceptors=[asks_first],
    )
    service.seen = seen  # type: ignore[attr-defined]  # for the tests
    return service


@pytest.mark.parametrize("given_object", [False, True])
async def test_two_instances_answer_from_their_own_views(tmp_path, given_object):
    """Each running instance has projections, views and buses of its own, wherever it is asked."""
    service = make_service(given_object=given_object)
    async with (
        Runtime(service, {"data": str(tmp_path / "a")}) as first,
        Runtime(service, {"data": str(tmp_path / "b")}) as second,
    ):
        in_first = await first.commands.send(Note("n", "first"))
        in_second = await second.commands.send(Note("n", "second"))
        for runtime, sent, text in ((first, in_first, "first"), (second, in_second, "second")):
            answer = await runtime.queries.ask(GetNote("n"), token=sent.token)
            assert answer == NoteView("n", text)
        await first.commands.send(Note("n", "again"))
        assert service.seen == [None, None, NoteView("n", "first")]
        for runtime in (first, second):  # each mailer has sent to its own instance

            async def echoed(runtime: Runtime = runtime) -> bool:
                assert runtime.store is not None
                return await runtime.store.version("EchoBook/n") == 1

            await until(echoed)
    async with Runtime(service, {"data": str(tmp_path / "a")}) as again:
        assert (await again.queries.ask(GetNote("n"))) == NoteView("n", "again")


async def test_handlers_can_use_the_service_while_it_is_still_starting(tmp_path):
    """Events that wait at the start are handled though registration takes its time."""
    service = make_service()
    async with Runtime(service, {"data": str(tmp_path), "role": "command"}) as before:
        assert before.store is not None
        for number in range(5):
            event = NewEvent.of(Noted(f"n{number}", "text"), new_metadata())
            await before.store.append([StreamWrite(f"Notebook/n{number}", [event])])
    registering, registered = asyncio.Event(), asyncio.Event()

    class Slow(Runtime):
        async def _register(self) -> None:
            registering.set()
            await registered.wait()
            await super()._register()

    runtime = Slow(service, {"data": str(tmp_path)})
    starting = asyncio.create_task(runtime.start())
    await registering.wait()

    async def all_echoed() -> bool:
        assert runtime.store is not None
        versions = [await runtime.store.version(f"EchoBook/n{n}") for n in range(5)]
        return versions == [1] * 5

    await until(all_echoed)
    registered.set()
    await starting
    assert all(not status.parked for status in await runtime.processors.statuses())
    await runtime.stop()


async def test_a_service_does_not_start_before_it_is_said_what_about_the_history(tmp_path):
    """A new event handler in a service with a history is refused, with both choices."""
    settings = {"data": str(tmp_path), "role": "command"}
    async with Runtime(Service("notes", aggregates=[Notebook]), settings) as before:
        await before.commands.send(Note("n", "text"))

    class Mailer(EventHandlers):
        @event_handler
        async def noted(self, event: Noted) -> None: ...

    service = Service("notes", aggregates=[Notebook], handlers=[Mailer])
    with pytest.raises(ConfigurationError, match='or start = "now"'):
        await Runtime(service, {"data": str(tmp_path)}).start()
