"""The service, as it is to be: it knows notes, and how often was counted."""

from typing import Annotated

from headwater.messages import Command, Event, Query, route
from headwater.modelling import (
    Aggregate,
    Projection,
    command_handler,
    event_handler,
    event_sourcing_handler,
    query_handler,
)
from headwater.service import Service
from headwater.views import Index, Key, View


@route("POST /tallies/{tally_id}")
class Count(Command):
    tally_id: str
    by: int


@route("POST /tallies/{tally_id}/notes")
class Note(Command):
    tally_id: str
    text: str


class Counted(Event):
    tally_id: str
    by: int


class Noted(Event):
    tally_id: str
    text: str


class TallyView(View):
    id: Annotated[str, Key]
    total: int = 0
    times: Annotated[int, Index] = 0
    notes: int = 0


@route("GET /tallies/{tally_id}")
class GetTally(Query[TallyView | None]):
    tally_id: str


@route("GET /tallies")
class FindTallies(Query[list[TallyView]]):
    times: int


class Tally(Aggregate):
    total: int = 0

    @command_handler(creates="if_missing")
    def count(self, command: Count) -> Counted:
        return Counted(command.tally_id, command.by)

    @command_handler
    def note(self, command: Note) -> Noted:
        return Noted(command.tally_id, command.text)

    @event_sourcing_handler
    def counted(self, event: Counted) -> None:
        self.total += event.by


class Tallies(Projection):
    segments = 2

    @event_handler(TallyView, key="tally_id")
    def counted(self, view: TallyView, event: Counted) -> None:
        view.total += event.by
        view.times += 1

    @event_handler(TallyView, key="tally_id")
    def noted(self, view: TallyView, event: Noted) -> None:
        view.notes += 1

    @query_handler
    async def one(self, query: GetTally) -> TallyView | None:
        return await self.views.get(TallyView, query.tally_id)

    @query_handler
    async def counted_often(self, query: FindTallies) -> list[TallyView]:
        return (await self.views.find(TallyView, where={"times": query.times})).items


service = Service("tally", aggregates=[Tally], projections=[Tallies], version="new")
