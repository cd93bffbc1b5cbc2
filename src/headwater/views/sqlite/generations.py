"""Generations in SQLite: which are active, which tables there are, finding the right one."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import apsw
import msgspec

from headwater._sql.resources import statements
from headwater.views.api import Generation, Segment
from headwater.views.catalog import Catalog, Changes, Shape
from headwater.views.checks import missing, not_made
from headwater.views.model import ReadModel, View, view_type
from headwater.views.sql_tables import SqlTable, name_in, statements_of
from headwater.views.sqlite import full_text
from headwater.views.sqlite.segments import drop_segments, is_held, make, of_generation
from headwater.views.sqlite.tables import Table, table, table_name

T = TypeVar("T")

_SQL = statements("headwater.views.sqlite", "generations.sql")
_columns = msgspec.json.Decoder(tuple[str, ...]).decode


class Generations:
    """Finds the table that a reader sees who does not say which generation.

    Of views that are no processor's it is remembered. Else it is looked for each time, as programs
    of other versions make other generations active, whose tables are there side by side.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._nobodys: dict[str, int] = {}

    def with_table(
        self,
        connection: apsw.Connection,
        view: type[View],
        work: Callable[[Table], T],
        *,
        generation: int | None = None,
    ) -> T:
        """Run work on the table of a generation (None, 0: the active one).

        Raises:
            ConfigurationError: there is no such table.
        """
        name = view_type(view).name
        chosen = generation or self.active(connection, name)
        try:
            return work(table(view, chosen))
        except apsw.SQLError as error:
            if not _is_missing_table(error, name):
                raise
        again = generation or self._look(connection, name)
        if again != chosen:
            try:
                return work(table(view, again))
            except apsw.SQLError as error:
                if not _is_missing_table(error, name):
                    raise
        raise missing(name, again)

    def active(self, connection: apsw.Connection, name: str) -> int:
        """Return the generation that a reader sees of what has this name."""
        return self._nobodys.get(name) or self._look(connection, name)

    def _look(self, connection: apsw.Connection, name: str) -> int:
        found: int | None = connection.execute(_SQL["active_view"], {"view": name}).get
        if found:
            self._nobodys.pop(name, None)
            return found
        catalog = catalog_of(connection)
        active = catalog.active_view(name)
        self._nobodys.pop(name, None)
        if not catalog.is_owned(name):
            self._nobodys[name] = active
        return active


def catalog_of(connection: apsw.Connection) -> Catalog:
    """Return what the store knows; for changes within their transaction."""
    return Catalog(
        (_generation(row) for row in connection.execute(_SQL["codes"])),
        (
            Shape(name, generation, _columns(columns), processor)
            for name, generation, columns, processor in connection.execute(_SQL["shapes"])
        ),
        last=dict(connection.execute(_SQL["dropped"])),
        segments=list(connection.execute(_SQL["segments"])),
    )


def generations(connection: apsw.Connection, processor: str) -> list[Generation]:
    """Return what is known of generations, of a processor or of all."""
    if processor:
        rows = connection.execute(_SQL["codes_of"], {"processor": processor})
    else:
        rows = connection.execute(_SQL["codes"])
    return [_generation(row) for row in rows]


def change(connection: apsw.Connection, processor: str, changes: Changes) -> None:
    """Carry out changes; in the transaction in which they were decided."""
    _drop(connection, [name for shape in changes.drop for name in tables_of(shape)])
    for shape in changes.drop:
        connection.execute(_SQL["drop_shape"], _bindings(shape))
    for model, shape in changes.create:
        if issubclass(model, SqlTable):
            _make_own(connection, model, shape)
        else:
            for statement in table(model, shape.generation).create:
                connection.execute(statement)
        connection.execute(_SQL["add_shape"], _bindings(shape))
    for shape in changes.own:
        connection.execute(_SQL["own_shape"], _bindings(shape))
    for number in changes.ended:
        drop_segments(connection, processor, number)
        connection.execute(_SQL["forget"], {"processor": processor, "generation": number})
    for known in changes.put:
        row = msgspec.structs.asdict(known)
        connection.execute(_SQL["put"], {**row, "generation": known.number})
    if changes.last:
        connection.execute(_SQL["keep_last"], {"processor": processor, "last": changes.last})


def tables_of(shape: Shape) -> list[str]:
    """Return the names of the tables of a shape, with those that are perhaps not there."""
    if shape.is_sql:
        return [name_in(shape.name, shape.generation)]
    name = table_name(shape.name, shape.generation)
    return [full_text.table_name(name), name]


def _drop(connection: apsw.Connection, names: Sequence[str]) -> None:
    """Drop tables; one that others refer to is dropped after these."""
    waiting, left = list(names), len(names) + 1
    while waiting and len(waiting) < left:
        left, kept = len(waiting), []
        for name in waiting:
            try:
                connection.execute(f'DROP TABLE IF EXISTS "{name}"')
            except apsw.ConstraintError:
                kept.append(name)
        waiting = kept
    for name in waiting:  # they refer to each other, or somebody else refers to them
        connection.execute(f'DROP TABLE "{name}"')


def _make_own(connection: apsw.Connection, model: type[SqlTable], shape: Shape) -> None:
    try:
        connection.execute(statements_of(model, shape.generation, engine="sqlite")).fetchall()
    except (apsw.SQLError, apsw.ConstraintError) as error:
        raise not_made(model, error) from error


def decide(
    connection: apsw.Connection,
    processor: str,
    decision: Callable[[Catalog, float], tuple[Changes, T]],
    *,
    now: float,
) -> T:
    """Decide about generations, and carry that out."""
    changes, result = decision(catalog_of(connection), now)
    change(connection, processor, changes)
    return result


def drop_unused(
    connection: apsw.Connection, processor: str, *, code: str, idle_s: float, now: float
) -> list[int]:
    """See `ViewStore.drop_unused`."""
    catalog = catalog_of(connection)
    idle = catalog.unused(processor, code, before=now - idle_s)
    gone = [number for number in idle if not is_held(connection, processor, number, now=now)]
    for number in gone:
        change(connection, processor, catalog.drop_for_good(processor, number))
    return gone


def drop(
    connection: apsw.Connection,
    processor: str,
    generation: int,
    views: Sequence[ReadModel],
    *,
    now: float,
) -> bool:
    """See `ViewStore.drop_generation`."""
    changes = catalog_of(connection).drop(processor, generation, views)
    gone = not is_held(connection, processor, generation, now=now)
    if gone:
        change(connection, processor, changes)
    return gone


def open_segments(
    connection: apsw.Connection, processor: str, *, count: int, token: str, generation: int
) -> list[Segment]:
    """See `ViewStore.open_segments`."""
    found = of_generation(connection, processor, generation)
    if found or catalog_of(connection).is_dropped(processor, generation):
        return found
    return make(connection, processor, count=count, token=token, generation=generation)


def use(connection: apsw.Connection, processor: str, generation: int, *, now: float) -> None:
    """Note that a generation is used."""
    which = {"processor": processor, "generation": generation, "used": now}
    connection.execute(_SQL["use"], which)


def _generation(row: Any) -> Generation:
    processor, number, code, complete, used = row
    return Generation(processor, number, code, bool(complete), used)


def _bindings(shape: Shape) -> dict[str, Any]:
    columns = msgspec.json.encode(shape.columns).decode()
    return {**msgspec.structs.asdict(shape), "columns": columns}


def _is_missing_table(error: apsw.SQLError, name: str) -> bool:
    text = str(error)
    return text.startswith("no such table") and f"view_{name}_" in text
