"""A service of today over a log of yesterday, for the tests of retag and snapshots."""

from typing import Annotated, Any, ClassVar

from headwater import (
    Aggregate,
    Command,
    Event,
    Service,
    Tag,
    command_handler,
    event_sourcing_handler,
    upcaster,
    wire,
)


class Keep(Command):
    box_id: str
    what: str


@wire("Kept", version=2)
class Kept(Event):
    box_id: str
    what: Annotated[str, Tag("what")]


@upcaster(Kept, from_version=1)
def _lower(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "what": content["what"].lower()}


class Box(Aggregate):
    snapshot_every: ClassVar[int] = 2
    kept: list[str] = []  # noqa: RUF012  # msgspec copies it

    @command_handler(creates="if_missing")
    def keep(self, command: Keep) -> Kept:
        return Kept(self.id, command.what)

    @event_sourcing_handler
    def on_kept(self, event: Kept) -> None:
        self.kept.append(event.what)


class Shelf(Aggregate):
    """Takes no snapshots, so its state may be anything."""

    snapshot_every: ClassVar[int] = 0
    places: dict[tuple[int, int], Any] = {}  # noqa: RUF012  # msgspec copies it

    @event_sourcing_handler
    def on_kept(self, event: Kept) -> None:
        self.places[len(self.places), 0] = {event.what}


service = Service("keeping", aggregates=[Box, Shelf])
