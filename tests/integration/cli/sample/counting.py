"""A tiny service for the tests of the command line: counters that go up."""

import time
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
    Tag,
    View,
    command_handler,
    event_handler,
    event_sourcing_handler,
    query_handler,
    route,
)

UNLUCKY = 13
STUCK = 99


class NotPositive(Rejection):
    by: int
    template = "{by} is not positive"


@route("POST /counters/{counter_id}")
class Increase(Command):
    counter_id: str
    by: int = 1


class Increased(Event):
    counter_id: str
    by: int
    parity: Annotated[str, Tag("parity")]


class CounterView(View):
    id: Annotated[str, Key]
    value: int = 0


@route("GET /counters/{counter_id}")
class GetCounter(Query[CounterView | None]):
    counter_id: str


class Counter(Aggregate):
    value: int = 0

    @command_handler(creates="if_missing")
    def increase(self, command: Increase) -> Increased:
        if command.by < 1:
            raise NotPositive(by=command.by)
        if command.by == STUCK:
            time.sleep(60)  # a fault of its author: the whole process stands still
        return Increased(command.counter_id, command.by, "odd" if command.by % 2 else "even")

    @event_sourcing_handler
    def increased(self, event: Increased) -> None:
        self.value += event.by


class Counters(Projection):
    segments = 2

    @event_handler(CounterView, key="counter_id")
    def increased(self, view: CounterView, event: Increased) -> None:
        if event.by == UNLUCKY:
            raise ValueError("unlucky")  # parks the counter: there is a dead letter to look at
        view.value += event.by

    @query_handler
    async def one(self, query: GetCounter) -> CounterView | None:
        return await self.views.get(CounterView, query.counter_id)


service = Service("counting", aggregates=[Counter], projections=[Counters], version="1.2")
