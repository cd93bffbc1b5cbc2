"""Rules about what the repository stores: it can be read again, and if not it says so."""

import asyncio
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
import pytest

from headwater.dispatch import CommandMessage
from headwater.dispatch.local import LocalCommandBus
from headwater.errors import EventUnreadable, HeadwaterError, Unstorable
from headwater.eventstore import EVERYTHING, EventStore, NewEvent, StreamWrite
from headwater.messages import Command, Event, Metadata, new_metadata
from headwater.modelling import (
    Aggregate,
    DecisionModel,
    Repository,
    command_handler,
    event_sourcing_handler,
)
from headwater.modelling.encoding import new_events
from headwater.modelling.models import DecisionHandlers


class Fill(Command):
    tank: str
    amount: float
    times: int = 1


class Note(Command):
    tank: str
    note: Any


class Filled(Event):
    tank: str
    amount: float
    level: float | None


class Noted(Event):
    tank: str
    note: Any


class Warned(Event):
    tank: str
    limit: float | None


class Warn(Command):
    tank: str
    limit: float


class Tank(Aggregate):
    snapshot_every: ClassVar[int] = 0

    level: float = 0.0
    notes: list[Any] = msgspec.field(default_factory=list)

    @command_handler(creates="if_missing")
    def fill(self, command: Fill) -> list[Filled]:
        level = self.level
        events = []
        for _ in range(command.times):
            level += command.amount
            events.append(Filled(self.id, command.amount, level))
        return events

    @command_handler(creates="if_missing")
    def note(self, command: Note) -> Noted:
        return Noted(self.id, command.note)

    @event_sourcing_handler
    def on_filled(self, event: Filled) -> None:
        assert event.level is not None
        self.level = event.level

    @event_sourcing_handler
    def on_noted(self, event: Noted) -> None:
        if isinstance(event.note, str) and event.note.startswith("1.5"):
            msg = "a note that is no number"
            raise ValueError(msg)
        self.notes.append(event.note)


class Limits(DecisionModel):
    tank: str = ""

    @classmethod
    def boundary(cls, command: Command) -> Any:
        return EVERYTHING

    @command_handler
    def warn(self, command: Warn) -> Warned:
        return Warned(command.tank, command.limit)


def bus_on(store: EventStore, **options: Any) -> LocalCommandBus:
    repository = Repository(Tank, store, source="tanks", **options)
    limits = DecisionHandlers(Limits, store, source="tanks")
    return LocalCommandBus([repository.handlers(), limits.handlers()])


async def stored(store: EventStore) -> list[str]:
    return [
        event.data.decode() for page in [p async for p in store.read()] for event in page.events
    ]


async def fresh(store: EventStore, tank: str = "t") -> Tank:
    """Return the state as a process sees it that has just started."""
    return (await Repository(Tank, store, source="tanks").state(tank)).state


async def put_raw(
    store: EventStore, tank: str, kind: str, data: bytes, *, version: int = 1
) -> None:
    """Store an event as an older program might have."""
    event = NewEvent(kind, version, data, b'{"id":"1"}')
    await store.append([StreamWrite(f"Tank/{tank}", [event])])


class StorableRules:
    """What cannot be read back is not stored."""

    async def test_refused_and_the_aggregate_goes_on(self, store: EventStore) -> None:
        """An event that could not be read again is refused; nothing of it is stored or kept."""
        bus = bus_on(store)
        await bus.send(Fill("t", 1e308))
        with pytest.raises(Unstorable) as caught:
            await bus.send(Fill("t", 1e308))
        assert str(caught.value) == (
            "event 'Filled' cannot be stored: its level is inf, which has no form in JSON: correct "
            "what makes it, or the declared type"
        )
        assert (caught.value.outcome, caught.value.status) == ("not stored", 500)
        result = await bus.send(Fill("t", -1e308))
        assert result.version == 2
        assert (await fresh(store)).level == 0.0
        assert len(await stored(store)) == 2

    async def test_all_or_nothing(self, store: EventStore) -> None:
        """Of several events that a command leads to none is stored when one cannot be."""
        bus = bus_on(store)
        with pytest.raises(Unstorable, match="its level is inf"):
            await bus.send(Fill("t", 1e308, times=2))
        assert await store.head() == 0
        assert (await bus.send(Fill("t", 1.0))).version == 1

    @pytest.mark.parametrize(
        "note", [float("nan"), {"a": [float("inf")]}, 2**63, object(), {None: 1}]
    )
    async def test_free_values(self, store: EventStore, note: Any) -> None:
        """Where anything is allowed, what has no form in JSON, or too many bits, is refused."""
        bus = bus_on(store)
        with pytest.raises(Unstorable, match="event 'Noted' cannot be stored: its note"):
            await bus.send(Note("t", note))
        await bus.send(Note("t", "fine"))
        assert (await fresh(store)).notes == ["fine"]

    async def test_the_state_is_what_it_will_be_when_it_is_loaded(self, store: EventStore) -> None:
        """A state is changed by what is read back, so a restart changes nothing in it."""
        bus = bus_on(store)
        repository = Repository(Tank, store, source="tanks")
        bus = LocalCommandBus([repository.handlers()])
        await bus.send(Note("t", (1, {2: (3,)})))
        await bus.send(Fill("t", 5))
        live = repository._live.get("t")
        assert live is not None
        assert live.state == await fresh(store) == Tank("t", 5.0, [[1, {"2": [3]}]])

    async def test_what_its_handler_cannot_take_back_is_not_stored(self, store: EventStore) -> None:
        """An event-sourcing handler gets what is read back: if it fails, nothing is stored."""
        bus = bus_on(store)
        with pytest.raises(ValueError, match="no number"):
            await bus.send(Note("t", Decimal("1.5")))
        assert await store.head() == 0
        await bus.send(Note("t", "fine"))

    async def test_neighbours_are_not_harmed(self, store: EventStore) -> None:
        """Commands of one pipeline around one whose event cannot be stored are carried out."""
        bus = bus_on(store)
        commands = [Fill("t", 1.0), Fill("t", float("inf")), Fill("t", 2.0), Fill("t", 4.0)]
        done = await asyncio.gather(*map(bus.send, commands), return_exceptions=True)
        assert [isinstance(one, Unstorable) for one in done] == [False, True, False, False]
        assert (await fresh(store)).level == 7.0

    async def test_decided_on_the_stored_state(self, store: EventStore) -> None:
        """On a state that others have changed meanwhile a command is decided again."""
        bus = bus_on(store)
        await bus.send(Fill("t", 1e308))
        await put_raw(store, "t", "Filled", b'{"tank":"t","amount":0.0,"level":0.0}')
        assert (await bus.send(Fill("t", 1e308))).version == 3

    async def test_under_a_key(self, store: EventStore) -> None:
        """Nothing is kept under the key of such a command; and a first outcome comes first."""
        bus = bus_on(store)
        with pytest.raises(Unstorable):
            await bus.send(Fill("t", 1e308, times=2), idempotency_key="a")
        assert await store.outcome("a") is None
        first = await bus.send(Fill("t", 1e308), idempotency_key="b")
        again = await bus.send(Fill("t", 1e308), idempotency_key="b")
        assert (again.version, again.duplicate) == (first.version, True)

    async def test_decision_models(self, store: EventStore) -> None:
        """The same holds for what decision models decide."""
        bus = bus_on(store)
        with pytest.raises(Unstorable, match="event 'Warned' cannot be stored: its limit is inf"):
            await bus.send(Warn("t", float("inf")))
        assert await store.head() == 0
        await bus.send(Warn("t", 1.0))

    @pytest.mark.parametrize(
        ("field", "value"), [("principal", 5), ("tenant", "\ud800"), ("principal", None)]
    )
    async def test_metadata(self, store: EventStore, field: str, value: Any) -> None:
        """Metadata that a hook made and that could not be read again is refused, too."""
        bus = bus_on(store)
        metadata = msgspec.structs.replace(new_metadata(), **{field: value})
        with pytest.raises(Unstorable, match=f"metadata cannot be stored: its {field} is"):
            await bus.dispatch(CommandMessage(Fill("t", 1.0), metadata))
        assert await store.head() == 0
        with pytest.raises(Unstorable, match=f"metadata cannot be stored: its {field} is"):
            NewEvent.of(Filled("t", 1.0, 1.0), metadata)
        await bus.send(Fill("t", 1.0))


UNREADABLE = [  # type, version, content, and what is said of it
    (
        "Filled",
        1,
        b'{"tank":"t","amount":1.0,"level":"high"}',
        "Expected `float | null`, got `str`",
    ),
    ("Filled", 1, b'{"tank":"t","amount":null,"level":1.0}', "Expected `float`, got `null`"),
    ("Filled", 1, b'{"tank":"t"}', "missing required field `amount`"),
    ("Filled", 1, b'{"tank":"\xff"', "UnicodeDecodeError"),
    ("Filled", 1, b"[" * 20_000, ""),
    ("Filled", 2, b"{}", "stored at version 2, this program knows 1: upgrade"),
]


class UnreadableRules:
    """Stored data that cannot be read is a fault of ours."""

    @pytest.mark.parametrize(("kind", "version", "data", "told"), UNREADABLE)
    async def test_the_error_says_which_event(
        self, store: EventStore, kind: str, version: int, data: bytes, told: str
    ) -> None:
        """It is no fault of the caller: it names stream, version and type, the reason, a remedy."""
        bus = bus_on(store)
        await bus.send(Fill("t", 1.0))
        await put_raw(store, "t", kind, data, version=version)
        repository = Repository(Tank, store, source="tanks")
        for use in (
            lambda: bus_on(store).send(Fill("t", 1.0)),
            lambda: bus.send(Fill("t", 1.0)),
            lambda: repository.state("t"),
            lambda: repository.state("t", at_position=2),
        ):
            with pytest.raises(EventUnreadable) as caught:
                await use()
            error = caught.value
            assert (error.stream, error.version, error.type) == ("Tank/t", 2, kind)
            assert (error.status, error.outcome) == (500, "not stored")
            assert told in error.reason
            assert "version 2 of stream 'Tank/t' cannot be read" in str(error)
            assert "register an @upcaster" in str(error)

    async def test_everything_else_goes_on(self, store: EventStore) -> None:
        """Other aggregates, and the state before that event, can be had as before."""
        bus = bus_on(store)
        await bus.send(Fill("t", 1.0))
        await put_raw(store, "t", "Filled", b"{}")
        repository = Repository(Tank, store, source="tanks")
        assert (await repository.state("t", at_version=1)).state.level == 1.0
        await bus_on(store).send(Fill("u", 2.0))
        assert (await fresh(store, "u")).level == 2.0

    async def test_decision_models_say_it_too(self, store: EventStore) -> None:
        """A decision model whose boundary holds such an event cannot be loaded, and says why."""

        class Levels(DecisionModel):
            tank: str = ""
            level: float = 0.0

            @classmethod
            def boundary(cls, command: Command) -> Any:
                return Limits.boundary(command)

            @command_handler
            def warn(self, command: Warn) -> Warned:
                return Warned(command.tank, self.level)

            @event_sourcing_handler
            def on_filled(self, event: Filled) -> None:
                self.level += event.amount

        await put_raw(store, "t", "Filled", b"{}")
        bus = LocalCommandBus([DecisionHandlers(Levels, store, source="x").handlers()])
        with pytest.raises(EventUnreadable, match="version 1 of stream 'Tank/t'"):
            await bus.send(Warn("t", 1.0))

    async def test_foreign_events_are_stored_by_the_same_rule(self, store: EventStore) -> None:
        """Whoever makes an event in stored form is held to it, also without a repository."""
        with pytest.raises(HeadwaterError, match="its level is nan"):
            new_events([Filled("t", 1.0, float("nan"))], Metadata(id="x"))
        assert await store.head() == 0
