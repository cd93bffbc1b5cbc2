"""A service, as it was."""

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
from headwater.views import Key, View


@route("POST /tallies/{tally_id}")
class Count(Command):
    tally_id: str
    by: int


class Counted(Event):
    tally_id: str
    by: int


class TallyView(View):
    id: Annotated[str, Key]
    total: int = 0


@route("GET /tallies/{tally_id}")
class GetTally(Query[TallyView | None]):
    tally_id: str


class Tally(Aggregate):
    total: int = 0

    @command_handler(creates="if_missing")
    def count(self, command: Count) -> Counted:
        return Counted(command.tally_id, command.by)

    @event_sourcing_handler
    def counted(self, event: Counted) -> None:
        self.total += event.by


class Tallies(Projection):
    segments = 2

    @event_handler(TallyView, key="tally_id")
    def counted(self, view: TallyView, event: Counted) -> None:
        view.total += event.by

    @query_handler
    async def one(self, query: GetTally) -> TallyView | None:
        return await self.views.get(TallyView, query.tally_id)


service = Service("tally", aggregates=[Tally], projections=[Tallies], version="old")
