"""Generations in SQLite: which are active, which tables there are, finding the right one."""

from collections.abc import Callable
from typing import Any, TypeVar

import apsw
import msgspec

from headwater._sql.resources import statements
from headwater.views.api import Generation
from headwater.views.catalog import Catalog, Changes, Shape
from headwater.views.checks import missing
from headwater.views.model import View, view_type
from headwater.views.sqlite.segments import drop_segments
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
        chosen = generation or self._nobodys.get(name) or self._look(connection, name)
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
    for shape in changes.drop:
        connection.execute(f'DROP TABLE IF EXISTS "{table_name(shape.name, shape.generation)}"')
        connection.execute(_SQL["drop_shape"], _bindings(shape))
    for view, shape in changes.create:
        for statement in table(view, shape.generation).create:
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
