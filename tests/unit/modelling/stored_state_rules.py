"""Rules of states that cannot be stored, and of states that handlers have made wrongly."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import pytest
from structlog.testing import capture_logs

from headwater.dispatch.local import LocalCommandBus
from headwater.eventstore import EventStore, Snapshot, StreamWrite
from headwater.messages import Command, Event, Metadata
from headwater.modelling import Aggregate, Repository, command_handler, event_sourcing_handler
from headwater.modelling.encoding import new_events
from headwater.modelling.snapshot_check import check_snapshots
from headwater.modelling.state import aggregate_type


class Draw(Command):
    canvas_id: str
    what: str


class Drawn(Event):
    canvas_id: str
    what: str


class Shape(msgspec.Struct):
    name: str = "shape"


class Circle(Shape):
    radius: int = 0


MADE: dict[str, Any] = {
    "number": 1,
    "point": {(1, 2): "x"},
    "none": {None: "x"},
    "bool": {True: "x"},
    "surrogate": "\ud800",
    "endless": float("inf"),
    "complex": 1j,
    "tuple": (1, 2),
}


class Canvas(Aggregate):
    snapshot_every: ClassVar[int] = 10

    drawn: list[str] = msgspec.field(default_factory=list)
    anything: Any = None
    shape: Shape | None = None
    counts: dict[str, int] = msgspec.field(default_factory=dict)

    @command_handler(creates="if_missing")
    def draw(self, command: Draw) -> Drawn:
        return Drawn(self.id, command.what)

    @event_sourcing_handler
    def on_drawn(self, event: Drawn) -> None:
        self.drawn.append(event.what)
        if event.what in MADE:
            self.anything = MADE[event.what]
        elif event.what == "circle":
            self.shape = Circle(radius=5)
        elif event.what == "counting":
            self.counts = defaultdict(int)


class Busy:
    """A store where somebody else draws on the canvas before every third append."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._appends = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, writes: Any, **options: Any) -> Any:
        self._appends += 1
        if self._appends % 3 == 0:
            new = new_events([Drawn("c", "line")], Metadata(id="foreign"))
            await self._store.append([StreamWrite("Canvas/c", new)])
        return await self._store.append(writes, **options)


class Painter:
    """Sends commands to the canvas ``c``."""

    def __init__(self, store: Any, aggregate: type[Aggregate] = Canvas) -> None:
        self.left_out: list[str] = []
        self.repository = Repository(
            aggregate, store, source="canvas", on_snapshot_left_out=self.left_out.append
        )
        self._bus = LocalCommandBus([self.repository.handlers()])

    async def draw(self, what: str, *, times: int = 1) -> int:
        for _ in range(times):
            result = await self._bus.send(Draw("c", what))
        await self.repository.close()
        return result.version

    async def state(self) -> Any:
        return (await self.repository.state("c")).state


class StoredStateRules:
    """A state that cannot be stored costs a snapshot, and nothing else."""

    @pytest.mark.parametrize("what", [*(set(MADE) - {"number"}), "circle", "counting"])
    async def test_commands_go_on_without_a_snapshot(self, store: EventStore, what: str) -> None:
        """A state that would not come back the same is not stored; commands go on, told once."""
        painter = Painter(store)
        with capture_logs() as logs:
            assert await painter.draw(what) == 1
            assert await painter.draw("line", times=29) == 30
        assert await store.load_snapshot("Canvas/c") is None
        assert painter.left_out == ["Canvas"] * 3  # each time one was due
        (told,) = logs
        assert (told["log_level"], told["aggregate"]) == ("warning", "Canvas")
        assert "Canvas" in told["reason"]
        again = Painter(store)
        assert await again.draw("line") == 31
        assert repr(await again.state()) == repr(await painter.state())

    async def test_what_was_wrong_may_pass(self, store: EventStore) -> None:
        """When the state can be stored again, the next snapshot is taken."""
        painter = Painter(store)
        await painter.draw("point", times=15)
        await painter.draw("number", times=10)
        snapshot = await store.load_snapshot("Canvas/c")
        assert snapshot is not None
        assert snapshot.version == 20
        assert len(painter.left_out) == 1

    async def test_conflicts_keep_what_comes_back(self, store: EventStore) -> None:
        """After a conflict a state goes on from what was kept only if that is the very state."""
        painter = Painter(Busy(store))
        await painter.draw("circle")
        await painter.draw("counting")
        await painter.draw("line", times=30)
        fresh = await Painter(store).state()
        live = painter.repository._live.get("c")
        assert live is not None
        assert isinstance(live.state.shape, Circle)
        assert isinstance(live.state.counts, defaultdict)
        assert live.state.drawn == fresh.drawn

    async def test_a_state_that_is_never_stored(self, store: EventStore) -> None:
        """An aggregate without snapshots may have any state, also under conflicts."""

        class Free(Canvas):
            stream_name: ClassVar[str] = "Canvas"
            snapshot_every: ClassVar[int] = 0
            places: dict[tuple[int, int], str] = msgspec.field(default_factory=dict)

            @event_sourcing_handler
            def on_drawn(self, event: Drawn) -> None:
                self.drawn.append(event.what)
                self.places[len(self.drawn), 0] = event.what

        painter = Painter(Busy(store), Free)
        await painter.draw("line", times=20)
        state = await painter.state()
        assert len(state.places) == len(state.drawn) == await store.version("Canvas/c")
        assert await store.load_snapshot("Canvas/c") is None
        assert painter.left_out == []

    async def test_a_snapshot_of_nonsense_is_told(self, store: EventStore) -> None:
        """A snapshot that cannot be read is replaced by the events, and told."""
        painter = Painter(store)
        await painter.draw("line", times=5)
        fingerprint = aggregate_type(Canvas).fingerprint
        await store.save_snapshot(Snapshot("Canvas/c", 5, fingerprint, b'{"drawn":7}'))
        fresh = Painter(store)
        assert (await fresh.state()).drawn == ["line"] * 5
        assert fresh.left_out == ["Canvas"]


class RevisionRules:
    """A corrected handler does not go on from what the wrong one has made."""

    async def test_a_revision_discards_snapshots(self, store: EventStore) -> None:
        """Snapshots of another revision are ignored, and replaced by new ones."""
        await Painter(store, Wrong).draw("line", times=12)
        assert (await Painter(store, Wrong).state()).drawn == ["enil"] * 12

        Right = drawing(str, revision=2)  # noqa: N806  # a class
        corrected = Painter(store, Right)
        assert (await corrected.state()).drawn == ["line"] * 12
        await corrected.draw("line")
        snapshot = await store.load_snapshot("Canvas/c")
        assert snapshot is not None
        assert (snapshot.version, snapshot.fingerprint) == (13, aggregate_type(Right).fingerprint)

    async def test_what_a_wrong_handler_made_is_found(self, store: EventStore) -> None:
        """A check compares each snapshot with a replay, and says what is different."""
        await Painter(store, Wrong).draw("line", times=12)
        assert await checked(Wrong, store) == [("Canvas/c", 10, "same", "")]

        Silently = drawing(str)  # noqa: N806  # a class
        assert (await Painter(store, Silently).state()).drawn[:10] == ["enil"] * 10
        ((stream, version, verdict, reason),) = await checked(Silently, store)
        assert (stream, version, verdict) == ("Canvas/c", 10, "different")
        assert reason.startswith("drawn is ['enil', ")
        assert "the events lead to ['line', " in reason
        await store.drop_snapshots("Canvas/")
        assert (await Painter(store, Silently).state()).drawn == ["line"] * 12

    async def test_a_check_looks_at_all_kinds(self, store: EventStore) -> None:
        """Snapshots that are ignored, unreadable, too new or not to be replayed are told apart."""
        await Painter(store, Wrong).draw("line", times=3)
        fingerprint = aggregate_type(Wrong).fingerprint
        for stream, version, mark, data in (
            ("Canvas/c", 3, fingerprint, b'{"id":"c","drawn":["enil","enil","enil"]}'),
            ("Canvas/d", 3, fingerprint, b'{"id":"d","drawn":[]}'),
            ("Canvas/e", 3, "other", b""),
            ("Canvas/f", 3, fingerprint, b'{"drawn":7}'),
            ("Canvases/g", 3, fingerprint, b"{}"),
        ):
            await store.save_snapshot(Snapshot(stream, version, mark, data))
        assert [each[:3] for each in await checked(Wrong, store)] == [
            ("Canvas/c", 3, "same"),
            ("Canvas/d", 3, "different"),
            ("Canvas/e", 3, "ignored"),
            ("Canvas/f", 3, "unreadable"),
        ]
        assert [each[3] for each in await checked(Wrong, store, prefix="Canvas/d")] == [
            "the stream has 0 events"
        ]

        Failing = drawing(int)  # noqa: N806  # a class
        ((*_, reason),) = await checked(Failing, store, prefix="Canvas/c")
        assert reason.startswith("replaying the events fails: ValueError: invalid literal")


async def checked(
    cls: type[Aggregate], store: EventStore, *, prefix: str = ""
) -> list[tuple[Any, ...]]:
    """Return what a check finds, as tuples."""
    found = check_snapshots(cls, store, prefix=prefix)
    return [msgspec.structs.astuple(one) async for one in found]


def drawing(read: Callable[[str], Any], *, revision: int = 1) -> type[Aggregate]:
    """Make the class as it is in one version of a program: with this handler and revision."""
    now = revision

    class Drawing(Aggregate):
        stream_name: ClassVar[str] = "Canvas"
        snapshot_every: ClassVar[int] = 10
        revision: ClassVar[int] = now
        drawn: list[str] = msgspec.field(default_factory=list)

        @command_handler(creates="if_missing")
        def draw(self, command: Draw) -> Drawn:
            return Drawn(self.id, command.what)

        @event_sourcing_handler
        def on_drawn(self, event: Drawn) -> None:
            self.drawn.append(read(event.what))

    return Drawing


Wrong = drawing(lambda text: text[::-1])
