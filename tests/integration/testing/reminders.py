"""A service that sends later: notes are put down, and reminded of in time."""

from datetime import datetime, timedelta
from typing import Annotated

from headwater import (
    Aggregate,
    Command,
    Event,
    Key,
    Projection,
    Query,
    Rejection,
    Service,
    View,
    ViewTransaction,
    command_handler,
    event_handler,
    query_handler,
    route,
)

DAY = timedelta(days=1)


@route("POST /notes")
class PutDown(Command):
    note_id: str
    remind: bool = True


@route("POST /notes/{note_id}/reminders")
class Remind(Command):
    note_id: str
    reason: str = ""


class NotePutDown(Event):
    note_id: str
    remind: bool


class Reminded(Event):
    note_id: str
    reason: str


class Enough(Rejection):
    template = "one reminder is enough"


class Note(Aggregate):
    @command_handler(creates=True)
    def put_down(self, command: PutDown) -> NotePutDown:
        return NotePutDown(command.note_id, command.remind)

    @command_handler
    def remind(self, command: Remind) -> Reminded:
        if command.reason == "nag":
            raise Enough
        return Reminded(command.note_id, command.reason)


class NoteView(View):
    id: Annotated[str, Key]
    reminders: int = 0


@route("GET /notes/{note_id}")
class GetNote(Query[NoteView]):
    note_id: str


class Notes(Projection):
    fails = False

    @event_handler
    async def put_down(self, event: NotePutDown, transaction: ViewTransaction) -> None:
        await transaction.save([NoteView(id=event.note_id)])
        if event.remind:
            await reminders.commands.send(
                Remind(event.note_id, "a day is over"), after=DAY, transaction=transaction
            )

    @event_handler(NoteView, key="note_id")
    def reminded(self, view: NoteView, event: Reminded) -> None:
        view.reminders += 1

    @query_handler
    async def note(self, query: GetNote) -> NoteView | None:
        return await self.views.get(NoteView, query.note_id)


reminders = Service("reminders", aggregates=[Note], projections=[Notes], scheduling=True)


@reminders.every("0 6 * * *", zone="Europe/Berlin")
def each_morning(tick: datetime) -> Remind:
    return Remind("daily", f"{tick:%Y-%m-%d %H:%M %Z}")
