"""Checks that every view store makes, with the same messages."""

from collections.abc import Collection, Sequence

from headwater.errors import ConfigurationError, InvalidInput
from headwater.views.api import Segment
from headwater.views.sql_tables import SqlTable


def check_shape(
    name: str, form: Sequence[str], stored: tuple[str, tuple[str, ...]] | None, *, generation: int
) -> None:
    """Refuse a read model whose stored name and form (None: not stored yet) are others.

    Raises:
        ConfigurationError: they differ.
    """
    if stored is None:
        return
    stored_name, columns = stored
    if stored_name != name:
        raise ConfigurationError(
            subject=f"view {name}",
            reason=f"view {stored_name} is stored already and differs by case only: rename one of "
            "them",
        )
    if (columns[0], set(columns[1:])) == (form[0], set(form[1:])):
        return
    if not form[0] or not columns[0]:
        reason = f"generation {generation} is stored as another table than is declared"
    else:
        reason = f"generation {generation} is stored with key and indexes {list(columns)}, "
        reason += f"declared are {list(form)}"
    raise ConfigurationError(
        subject=f"view {name}", reason=f"{reason}: rebuild the projection into a new generation"
    )


def check_active(processor: str, generation: int, active: Collection[int]) -> None:
    """Refuse to go back: readers rely on active generations that only rise.

    Raises:
        InvalidInput: a later generation is active.
    """
    if generation < max(active):
        raise InvalidInput(
            reason=f"generation {max(active)} of {processor!r} or its views is active, "
            f"{generation} was asked for: rebuild into generation {max(active) + 1}"
        )


def check_droppable(processor: str, generation: int, active: Collection[int]) -> None:
    """Refuse to drop a generation that is in use.

    Raises:
        InvalidInput: it is active.
    """
    if generation in active:
        raise InvalidInput(
            reason=f"generation {generation} of {processor!r} is active: activate another one first"
        )


def check_whole(segments: Sequence[Segment]) -> None:
    """Refuse segments that do not divide the work of one generation without gap and overlap.

    Raises:
        InvalidInput: they do not.
    """
    wholes = {(s.processor, s.generation, s.count) for s in segments}
    shares = [(s.index, s.count) for s in segments]
    if len(wholes) != 1 or sorted(shares) != [(n, len(shares)) for n in range(len(shares))]:
        raise InvalidInput(
            reason=f"segments (index, count) {shares} of {len(wholes)} processors, generations or "
            "counts do not divide the work: give all shares of one generation, each once"
        )


def missing(name: str, generation: int) -> ConfigurationError:
    """Return the error for a table that is not there."""
    return ConfigurationError(
        subject=f"view {name}",
        reason=f"generation {generation} is not in the store (never made, or dropped by an "
        "activation): ensure() it at start",
    )


def not_made(model: type[SqlTable], error: Exception) -> ConfigurationError:
    """Return the error for a table whose declaration the database does not take."""
    return ConfigurationError(
        subject=model.__name__,
        reason=f"its create fails: {error}: correct it, in the SQL of the database in use",
    )


def no_sql() -> ConfigurationError:
    """Return the error for SQL where there is none."""
    return ConfigurationError(
        subject="views in memory",
        reason="have no SQL: keep them in sqlite:... or postgresql://...",
    )
