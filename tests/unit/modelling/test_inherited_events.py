"""Events and handlers that derive from others: aggregates, decision models, sagas."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest

from headwater.errors import AggregateNotFound, DeclarationError, HeadwaterError, Rejection
from headwater.eventstore import NewEvent, StoredEvent
from headwater.messages import Command, Event, Tag, message_type, new_metadata, upcaster, wire
from headwater.modelling import (
    Aggregate,
    DecisionModel,
    Effects,
    Saga,
    command_handler,
    event_sourcing_handler,
    rejection_handler,
    saga_handler,
)
from headwater.modelling.saga import saga_type
from headwater.modelling.state import aggregate_type, model_type
from headwater.testing import given


class Move(Command):
    id: str
    by: int = 1


class Push(Move):
    pass


class Moved(Event):
    id: Annotated[str, Tag("cart")]
    by: int = 1


class MovedFast(Moved):
    speed: int = 9


class MovedVeryFast(MovedFast):
    pass


@wire("cart-slid", version=2, aliases=["Slid"])
class MovedAside(Moved):
    pass


upcaster(MovedAside, from_version=1)(lambda content: content)


class Stopped(Event):
    id: str


class Cart(Aggregate):
    at: int = 0
    fast: int = 0

    @command_handler(creates="if_missing")
    def move(self, command: Move) -> Moved:
        return MovedVeryFast(command.id, command.by) if command.by > 5 else Moved(command.id)

    @event_sourcing_handler
    def moved(self, event: Moved) -> None:
        self.at += event.by


class FastCart(Cart):
    @event_sourcing_handler
    def moved_fast(self, event: MovedFast) -> None:
        self.fast += event.by


class Traffic(DecisionModel):
    id: Annotated[str, Tag("cart")] = ""
    count: int = 0

    @command_handler
    def move(self, command: Move) -> Moved | None:
        return None if self.count else MovedFast(command.id)

    @event_sourcing_handler
    def moved(self, event: Moved) -> None:
        self.count += 1


def stored(*events: Event) -> list[StoredEvent]:
    made = [NewEvent.of(event, new_metadata()) for event in events]
    return [
        StoredEvent(n, "s", n, e.type, e.type_version, 0, e.tags, e.data, e.metadata)
        for n, e in enumerate(made, 1)
    ]


EVENTS = (Moved("c"), MovedFast("c", 2), MovedVeryFast("c", 4), MovedAside("c", 8), Stopped("c"))


@pytest.mark.parametrize(("cls", "at", "fast"), [(Cart, 15, 0), (FastCart, 9, 6)])
def test_the_nearest_handler_takes_an_event(cls: type[Cart], at: int, fast: int) -> None:
    """An event goes to the handler of the class that it derives from most closely."""
    kind = aggregate_type(cls)
    replayed, applied = cls(id="c"), cls(id="c")
    kind.replay(replayed, stored(*EVENTS))
    for event in EVENTS:
        kind.apply(applied, event)
    assert (replayed.at, replayed.fast) == (at, fast)
    assert replayed == applied


def test_a_decided_event_changes_the_state() -> None:
    """What a command decides is applied by the handler of its base, and read back so."""
    given(Cart).when(Move("c", 7)).then(MovedVeryFast("c", 7)).then_state(at=7)


def test_former_names_of_a_derived_event() -> None:
    """Derived events are read under all of their names."""
    names = set(aggregate_type(Cart).event_names)
    assert names >= {"Moved", "MovedFast", "MovedVeryFast", "cart-slid", "Slid"}
    old = stored(MovedAside("c", 8))[0]
    cart = Cart(id="c")
    aggregate_type(Cart).replay(
        cart, [StoredEvent(1, "s", 1, "Slid", 2, 0, (), old.data, old.metadata)]
    )
    assert cart.at == 8


def test_a_boundary_takes_derived_events() -> None:
    """A decision depends on derived events as well: they are read and guarded against."""
    names = {name for item in Traffic.boundary(Move("c")).items for name in item.types}
    assert names >= {"Moved", "MovedFast", "cart-slid"}
    given(Traffic, MovedVeryFast("c")).when(Move("c")).then_nothing()
    given(Traffic, MovedVeryFast("d")).when(Move("c")).then(MovedFast("c"))


def test_an_event_that_is_defined_later() -> None:
    """A derived class that did not exist when the handlers were first used is known, too."""
    cart = Cart(id="c")
    aggregate_type(Cart).replay(cart, stored(Moved("c")))
    assert "MovedLate" not in aggregate_type(Cart).event_names

    class MovedLate(Moved):
        pass

    aggregate_type(Cart).apply(cart, MovedLate("c", 20))
    assert cart.at == 21

    class MovedLater(MovedLate):
        pass

    aggregate_type(Cart).replay(cart, stored(MovedLater("c", 100)))
    assert cart.at == 121
    assert "MovedLater" in model_type(Traffic).event_names


def test_a_class_that_is_defined_again() -> None:
    """Of a derived class that a function defines each time it is called, the last one counts."""

    def define() -> type[Moved]:
        class MovedAgain(Moved):
            pass

        return MovedAgain

    define()
    second = define()
    cart = Cart(id="c")
    aggregate_type(Cart).apply(cart, second("c"))
    assert cart.at == 1
    assert aggregate_type(Cart).codec.class_of("MovedAgain") is second


def test_two_handlers_that_are_equally_near() -> None:
    """An event of two bases whose handlers differ is refused, naming both."""

    class Left(Event):
        id: str

    class Right(Event):
        pass

    class Both(Left, Right):
        pass

    class Turning(Aggregate):
        @event_sourcing_handler
        def left(self, event: Left) -> None: ...

        @event_sourcing_handler
        def right(self, event: Right) -> None: ...

    with pytest.raises(DeclarationError, match=r"Both could go to the handler of .*Left and of"):
        aggregate_type(Turning)

    class Settled(Turning):
        @event_sourcing_handler
        def both(self, event: Both) -> None: ...

    assert set(aggregate_type(Settled).event_names) >= {"Left", "Right", "Both"}


def test_another_class_of_the_same_name() -> None:
    """An event that would be read back as another one is refused when it is decided."""

    @wire("Moved")
    class Other(Event):
        id: str

    with pytest.raises(DeclarationError, match=r"Other: wire name 'Moved' belongs to .*\.Moved"):
        aggregate_type(Cart).apply(Cart(id="c"), Other("c"))


class Started(Event):
    id: str


class StartedLate(Started):
    pass


class Refused(Rejection):
    pass


class RefusedForGood(Refused):
    pass


class Trip(Saga):
    began: int = 0
    seen: str = ""

    @saga_handler(key="id", starts=True)
    def started(self, event: Started) -> Effects:
        self.began += 1
        return Move(event.id)

    @rejection_handler
    def any_refusal(self, command: Move, rejection: Rejection) -> Effects:
        self.seen = "any"
        return None

    @rejection_handler
    def refused(self, command: Move, rejection: Refused | AggregateNotFound) -> Effects:
        self.seen = "refused"
        return None

    @rejection_handler
    def push_refused(self, command: Push, rejection: RefusedForGood) -> Effects:
        self.seen = "push"
        return None


def test_a_saga_takes_derived_events() -> None:
    """A saga is begun by an event that derives from the one it handles."""
    given(Trip).when(StartedLate("t")).then(Move("t"))
    assert saga_type(Trip).event_handler(Moved) is None


class RefusedToday(Refused):
    pass


class Elsewhere(Rejection):
    pass


@pytest.mark.parametrize(
    ("command", "error", "seen"),
    [
        (Move("t"), Elsewhere(), "any"),
        (Move("t"), Refused(), "refused"),
        (Move("t"), RefusedToday(), "refused"),
        (Move("t"), AggregateNotFound(aggregate="Cart", id="t"), "refused"),
        (Move("t"), RefusedForGood(), "refused"),
        (Push("t"), RefusedForGood(), "push"),
        (Push("t"), RefusedToday(), "refused"),
        (Push("t"), Elsewhere(), "any"),
    ],
)
def test_the_nearest_rejection_handler(command: Command, error: HeadwaterError, seen: str) -> None:
    """A refusal goes to the handler nearest to command and error, in whatever order they are."""
    one = given(Trip, Started("t"))
    one.when_refused(command, error)
    assert one.state is not None
    assert one.state.seen == seen


def test_rejection_handlers_that_are_equally_near() -> None:
    """Two handlers of one refusal, or of which neither is nearer, are refused with both names."""

    def handler(name: str, command: Any, error: Any) -> Callable[..., Any]:
        def handle(self: Any, command: command, rejection: error) -> Effects: ...

        handle.__qualname__ = name
        return rejection_handler(handle)

    def define(*handlers: Callable[..., Any]) -> None:
        type("Made", (Saga,), {f"on_{n}": handler for n, handler in enumerate(handlers)})

    with pytest.raises(DeclarationError, match=r"one: .*Refused of .*Move could go to .*other"):
        define(handler("one", Move, Refused), handler("other", Move, Refused | Elsewhere))
    wide, narrow = handler("wide", Push, Rejection), handler("narrow", Move, Refused)
    with pytest.raises(DeclarationError, match=r"wide: .*Refused of .*Push could go to .*narrow"):
        define(wide, narrow)
    define(wide, narrow, handler("own", Push, Refused))


# overriding ----------------------------------------------------------------------------------


def test_an_override_without_decorator_is_still_a_handler() -> None:
    """A method that overrides a handler is one: of an event, of a command, with its options."""

    class Slow(Cart):
        def move(self, command: Move) -> Moved:
            return Moved(command.id, 100)

        def moved(self, event: Moved) -> None:
            self.at += 1

    given(Slow).when(Move("c", 7)).then(Moved("c", 100)).then_state(at=1)


def test_an_override_without_annotation_takes_what_it_overrides_takes() -> None:
    """What an override leaves out is as in the method that it overrides."""

    class Slow(Cart):
        def moved(self, event):
            self.at += 1

    given(Slow).when(Move("c")).then(Moved("c")).then_state(at=1)


def test_an_override_of_a_saga() -> None:
    """The handlers of sagas are inherited, with their keys."""

    class Longer(Trip):
        def started(self, event: Started) -> Effects:
            return Push(event.id)

        def refused(self, command: Move, rejection: Refused | AggregateNotFound) -> Effects:
            self.seen = "longer"
            return None

    one = given(Longer).when(StartedLate("t")).then(Push("t"))
    one.when_refused(Move("t"), Refused())
    assert one.state is not None
    assert one.state.seen == "longer"


def test_a_handler_can_be_removed() -> None:
    """``None`` in the place of a handler removes it, visibly."""

    class Fixed(Cart):
        moved = None  # type: ignore[assignment]  # that is how

    given(Fixed).when(Move("c")).then(Moved("c")).then_state(at=0)


@pytest.mark.parametrize("what", ["type", "kind", "value", "async", "field"])
def test_an_override_that_would_let_a_handler_vanish(what: str) -> None:
    """An override that takes something else is refused, naming both methods."""

    def other(self: Any, event: MovedFast) -> None: ...

    @command_handler
    def decides(self: Any, command: Push) -> None: ...

    async def later(self: Any, event: Moved) -> None: ...

    namespace: dict[str, Any] = {
        "type": {"moved": other},
        "kind": {"moved": decides},
        "value": {"moved": 5},
        "async": {"moved": later},
        "field": {"moved": 0, "__annotations__": {"moved": int}},
    }[what]
    cls = type("Wrong", (Cart,), {"__module__": __name__, **namespace})
    with pytest.raises(DeclarationError) as refused:
        aggregate_type(cls)
    assert f"overrides the handler {__name__}.Cart.moved, but" in str(refused.value)
    assert "= None" in str(refused.value)
    name = namespace["moved"].__qualname__ if callable(namespace["moved"]) else "Wrong.moved"
    assert name in str(refused.value)


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_a_handler_is_a_plain_method(kind: Any) -> None:
    """A static method or a method of the class is refused as a handler, instead of ignored."""

    def moved(self: Any, event: Moved) -> None: ...

    cls = type("Wrong", (Aggregate,), {"moved": kind(event_sourcing_handler(moved))})
    with pytest.raises(DeclarationError, match=r"Wrong\.moved: is a handler: make it a plain meth"):
        aggregate_type(cls)


def test_message_types_name_their_service() -> None:
    """An event can say which service it is of; a command cannot."""

    @wire("Placed", source="orders")
    class Placed(Event):
        id: str

    assert message_type(Placed).source == "orders"
    assert message_type(Moved).source == ""
    with pytest.raises(DeclarationError, match="is for events"):
        wire("Push", source="orders")(Push)
