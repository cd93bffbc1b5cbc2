"""Which classes read the events of a service, when its tags are given anew."""

import types
from typing import Annotated

from headwater.messages import Event, Tag, Upcast, upcaster, wire
from headwater.modelling import Aggregate, EventHandlers, event_handler, event_sourcing_handler
from headwater.operations.retag import codec_of
from headwater.service import Service


@wire("classes.Joined")
class Joined(Event):
    member: Annotated[str, Tag]


@wire("classes.Moved", version=2)
class Moved(Event):
    member: Annotated[str, Tag("moved")]


@upcaster(Moved, from_version=1, into=[Joined])
def _joined(content: dict[str, str]) -> Upcast:
    return Upcast(Joined, 1, content)


@wire("classes.Noted")  # which no handler takes
class Noted(Event):
    member: Annotated[str, Tag("noted")]


@wire("classes.Gap", version=2)
class Gap(Event):
    """Cannot be read, since an upcaster is missing."""


class Member(Aggregate):
    @event_sourcing_handler
    def joined(self, event: Joined) -> None: ...


def other(name: str, *, source: str = "") -> type[Event]:
    """Make another class of a name, as another service in the same process has it."""
    space = {"__annotations__": {"member": str}}
    made = types.new_class("Other", (Event,), {}, lambda body: body.update(space))
    return wire(name, source=source)(made)


def test_a_service_is_read_by_its_own_classes() -> None:
    """Classes of aggregates go before all others of their names, and sources of them, too."""
    copies = [other("classes.Joined"), other("classes.Moved")]
    codec, twice = codec_of(Service("members", aggregates=[Member]))
    assert codec.decode("classes.Joined", 1, b'{"member":"m"}') == Joined("m")
    assert codec.decode("classes.Moved", 2, b'{"member":"m"}') == Moved("m")
    assert codec.decode_all("classes.Moved", 1, b'{"member":"m"}') == (Joined("m"),)
    assert codec.decode("classes.Noted", 1, b'{"member":"m"}') == Noted("m")
    assert not codec.knows("classes.Gap")
    assert not {"classes.Joined", "classes.Moved", "classes.Noted"} & twice.keys()
    assert copies


def test_handlers_of_the_store_tell_which_class_it_is() -> None:
    """A class that a handler takes from the store counts; one that it takes from the bus does not.

    What nobody tells apart is left alone, and both classes are named.
    """
    mine, theirs = other("classes.Told"), other("classes.Told", source="elsewhere")
    copy = other("classes.Told")

    class Handling(EventHandlers):
        @event_handler
        async def told(self, event: mine) -> None: ...  # type: ignore[valid-type]  # made above

    class FromBus(EventHandlers):
        source = "bus"

        @event_handler
        async def told(self, event: theirs) -> None: ...  # type: ignore[valid-type]  # made above

    codec, twice = codec_of(Service("members", handlers=[Handling, FromBus]))
    assert type(codec.decode("classes.Told", 1, b'{"member":"m"}')) is mine
    assert "classes.Told" not in twice
    codec, twice = codec_of(Service("members", handlers=[FromBus]))
    assert not codec.knows("classes.Told")
    assert len(twice["classes.Told"]) == 2  # that of another service is none of them
    assert copy is not mine
    assert all(name.endswith(".Other") for name in twice["classes.Told"])
