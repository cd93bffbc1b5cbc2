"""What a service refuses at its start, and what it tells, of states and older events."""

from typing import Any, ClassVar

import aiohttp
import pytest

from headwater.errors import DeclarationError
from headwater.messages import Command, Event, wire
from headwater.modelling import (
    Aggregate,
    Effects,
    EventHandlers,
    Projection,
    Saga,
    command_handler,
    event_handler,
    event_sourcing_handler,
    saga_handler,
)
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.views import ViewTransaction


class Draw(Command):
    canvas_id: str


class Drawn(Event):
    canvas_id: str


class Canvas(Aggregate):
    snapshot_every: ClassVar[int] = 5
    strokes: Any = None

    @command_handler(creates="if_missing")
    def draw(self, command: Draw) -> Drawn:
        return Drawn(self.id)

    @event_sourcing_handler
    def drawn(self, event: Drawn) -> None:
        self.strokes = {(1, 2): "stroke"}  # which has no form in JSON


async def test_a_snapshot_that_was_left_out_is_told(tmp_path):
    """Commands go on where a snapshot cannot be taken, and the metrics say how often."""
    service = Service("canvases", aggregates=[Canvas])
    async with Runtime(service, {"data": str(tmp_path)}) as runtime:
        for _ in range(12):
            assert (await runtime.commands.send(Draw("c"))).version
        async with aiohttp.ClientSession(runtime.url) as http, http.get("/metrics") as answer:
            text = await answer.text()
    told = [line for line in text.splitlines() if "snapshots_left_out_total{" in line]
    assert len(told) == 1
    assert 'aggregate="Canvas"' in told[0]
    assert told[0].endswith(" 2.0")
    async with Runtime(service, {"data": str(tmp_path)}) as again:
        assert (await again.commands.send(Draw("c"))).version == 13


@wire("upkeep.Gap", version=3)
class Gap(Event):
    canvas_id: str


def test_a_service_does_not_start_with_events_that_cannot_be_lifted():
    """Whoever handles an event of which a step is missing, the service names it at its start."""

    class Projecting(Projection):
        @event_handler
        async def gap(self, event: Gap, transaction: ViewTransaction) -> None: ...

    class Handling(EventHandlers):
        @event_handler
        async def gap(self, event: Gap) -> None: ...

    class Guiding(Saga):
        @saga_handler(key="canvas_id", starts=True)
        def gap(self, event: Gap) -> Effects: ...

    for parts in ({"projections": [Projecting]}, {"handlers": [Handling]}, {"sagas": [Guiding]}):
        with pytest.raises(DeclarationError) as error:
            Service("gaps", **parts)
        assert str(error.value).startswith(
            "Gap: event 'upkeep.Gap' is at version 3, and what was stored at version 1, 2 cannot "
            "be read: add @upcaster(Gap, from_version=1), @upcaster(Gap, from_version=2)"
        )


def test_a_service_does_not_start_with_a_state_that_cannot_be_stored():
    """A state whose snapshots could never be taken is refused with what can be done."""

    class Seats(Aggregate):
        taken: dict[tuple[int, int], str] = {}  # noqa: RUF012  # msgspec copies it

        @event_sourcing_handler
        def drawn(self, event: Drawn) -> None: ...

    with pytest.raises(DeclarationError, match=r"'taken' cannot be stored.*snapshot_every = 0"):
        Service("seats", aggregates=[Seats])
