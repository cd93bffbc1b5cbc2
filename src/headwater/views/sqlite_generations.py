"""Generations in SQLite: which are active, which tables there are, and finding the right one."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import apsw
import msgspec

from headwater.views.checks import check_active, check_droppable, check_shape, missing
from headwater.views.model import View, ViewType, view_type
from headwater.views.sqlite_segments import drop_idle, drop_older
from headwater.views.sqlite_tables import Table, table, table_name

T = TypeVar("T")

_ACTIVE = "SELECT generation FROM view_generations WHERE kind = ? AND name = ?"
_ACTIVE_VIEWS = "SELECT name, generation FROM view_generations WHERE kind = 'view'"
_SET_ACTIVE = "INSERT OR REPLACE INTO view_generations (kind, name, generation) VALUES (?, ?, ?)"
_SHAPE = "SELECT name, columns FROM view_shapes WHERE view = ? AND generation = ?"
_SHAPES_BEFORE = "SELECT generation FROM view_shapes WHERE view = ? AND generation < ?"
_ADD_SHAPE = "INSERT INTO view_shapes (view, generation, name, columns) VALUES (?, ?, ?, ?)"
_DROP_SHAPE = "DELETE FROM view_shapes WHERE view = ? AND generation = ?"

_columns = msgspec.json.Decoder(tuple[str, ...]).decode


class Generations:
    """Knows the active generations, without asking the database for every read.

    That is safe because active generations only rise, and whoever raises one drops the older
    tables in the same transaction: a generation that we know is the active one, or its table is
    gone. So a missing table means: look again.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._active: dict[str, int] = {}
        self._lock = threading.Lock()

    def with_table(
        self,
        connection: apsw.Connection,
        view: type[View],
        work: Callable[[Table], T],
        *,
        generation: int | None = None,
    ) -> T:
        """Run work on the table of a generation (None: the active one).

        Raises:
            ConfigurationError: there is no such table.
        """
        name = view_type(view).name
        chosen = generation or self._active.get(name, 1)
        try:
            return work(table(view, chosen))
        except apsw.SQLError as error:
            if not _is_missing_table(error, name):
                raise
        if generation is None:
            self.refresh(connection)
            chosen = self._active.get(name, 1)
            try:
                return work(table(view, chosen))
            except apsw.SQLError as error:
                if not _is_missing_table(error, name):
                    raise
        raise missing(name, chosen)

    def refresh(self, connection: apsw.Connection) -> None:
        """Read the active generations; a thread that read before another never sets them back."""
        rows: list[Any] = connection.execute(_ACTIVE_VIEWS).fetchall()
        with self._lock:
            known = self._active
            self._active = known | {n: g for n, g in rows if g > known.get(n, 0)}


def active(connection: apsw.Connection, kind: str, name: str) -> int:
    """Return the active generation of a ``view`` or ``processor``."""
    return int(connection.execute(_ACTIVE, (kind, name)).get or 1)


def is_ensured(
    connection: apsw.Connection, views: Sequence[type[View]], generation: int | None, processor: str
) -> bool:
    """Whether there is nothing to `ensure`; a reader can tell.

    Raises:
        ConfigurationError: one is there in another form.
    """
    looks = [_look(connection, view_type(view), generation, processor) for view in views]
    return not any(look.create or look.activate for look in looks)


def ensure(
    connection: apsw.Connection, views: Sequence[type[View]], generation: int | None, processor: str
) -> None:
    """Make the tables and indexes that are missing.

    Raises:
        ConfigurationError: one is there in another form.
    """
    for view in views:
        kind = view_type(view)
        look = _look(connection, kind, generation, processor)
        if look.create:
            for statement in table(view, look.generation).create:
                connection.execute(statement)
            columns = msgspec.json.encode((kind.key, *kind.indexes)).decode()
            connection.execute(_ADD_SHAPE, (kind.name, look.generation, kind.name, columns))
        if look.activate:
            _activate(connection, kind.name, look.generation)


def activate(
    connection: apsw.Connection, processor: str, generation: int, views: Sequence[type[View]]
) -> None:
    """Make a generation active and drop the older ones.

    Raises:
        ConfigurationError: a table of the generation is missing.
        InvalidInput: a later one is active.
    """
    names = [view_type(view).name for view in views]
    present = [active(connection, "processor", processor)]
    present += [active(connection, "view", name) for name in names]
    check_active(processor, generation, present)
    for name in names:
        if connection.execute(_SHAPE, (name, generation)).get is None:
            raise missing(name, generation)
        _activate(connection, name, generation)
    drop_older(connection, processor, generation)
    connection.execute(_SET_ACTIVE, ("processor", processor, generation))


def drop_generation(
    connection: apsw.Connection,
    processor: str,
    generation: int,
    views: Sequence[type[View]],
    *,
    now: float,
) -> bool:
    """Remove a generation that is not active and that nobody works on; return whether it is gone.

    Raises:
        InvalidInput: it is active.
    """
    names = [view_type(view).name for view in views]
    present = [active(connection, "processor", processor)]
    present += [active(connection, "view", name) for name in names]
    check_droppable(processor, generation, present)
    gone = drop_idle(connection, processor, generation, now=now)
    for name in names if gone else ():
        _drop(connection, name, generation)
    return gone


class _Look(NamedTuple):
    """What is to be done for a view type."""

    generation: int
    create: bool
    activate: bool


def _look(
    connection: apsw.Connection, kind: ViewType, generation: int | None, processor: str
) -> _Look:
    now: int = connection.execute(_ACTIVE, ("view", kind.name)).get or 0
    chosen = generation or now or active(connection, "processor", processor)
    if chosen < now:  # dropped; made again, it would pass for the active one
        return _Look(chosen, create=False, activate=False)
    row = connection.execute(_SHAPE, (kind.name, chosen)).fetchone()
    stored = None if row is None else (row[0], _columns(row[1]))
    check_shape(kind, stored, generation=chosen)
    return _Look(chosen, stored is None, generation is None and chosen > max(now, 1))


def _activate(connection: apsw.Connection, name: str, generation: int) -> None:
    older: list[Any] = connection.execute(_SHAPES_BEFORE, (name, generation)).fetchall()
    for (before,) in older:
        _drop(connection, name, before)
    connection.execute(_SET_ACTIVE, ("view", name, generation))


def _drop(connection: apsw.Connection, name: str, generation: int) -> None:
    connection.execute(f'DROP TABLE IF EXISTS "{table_name(name, generation)}"')
    connection.execute(_DROP_SHAPE, (name, generation))


def _is_missing_table(error: apsw.SQLError, name: str) -> bool:
    text = str(error)
    return text.startswith("no such table") and f"view_{name}_" in text
