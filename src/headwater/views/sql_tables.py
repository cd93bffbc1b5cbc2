"""Tables of an author's own beside the views: one per generation, committed with the token."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from headwater.errors import ConfigurationError, DeclarationError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")


class SqlTable:
    """A table of a read model that is written and read with SQL.

    ::

        class Sale(SqlTable):
            create = "CREATE TABLE {sale} (id text PRIMARY KEY, customer text NOT NULL)"

    A projection names it among its ``view_types``. Each generation of its views has a table of its
    own, made and dropped with them, so ``create`` says ``{sale}`` where the name of the table goes;
    of other tables of the projection so, too. It may be several statements (indexes, a full-text
    index; their names begin with that of the table: ``{sale}_customer``). What depends on the
    table goes with it.

    Class options: ``table_name`` (default: the class name in snake case), ``create``: one text, or
    one by `Sql.engine`, ``{"sqlite": "...", "postgres": "..."}``.
    """

    table_name: ClassVar[str] = ""
    create: ClassVar[str | Mapping[str, str]] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check the declaration.

        Raises:
            DeclarationError: the name is none, or ``create`` does not say where it goes.
        """
        super().__init_subclass__(**kwargs)
        if not cls.__dict__.get("table_name"):
            cls.table_name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        reason = ""
        texts = [cls.create] if isinstance(cls.create, str) else list(cls.create.values())
        if not _NAME.fullmatch(cls.table_name):
            reason = f"table_name is {cls.table_name!r}: use a-z, 0-9 and _, at most 40"
        elif not texts or not all(f"{{{cls.table_name}}}" in text for text in texts):
            reason = f"create lacks the name of its table: CREATE TABLE {{{cls.table_name}}} (...)"
        if reason:
            raise DeclarationError(subject=cls.__name__, reason=reason)


def form_of(table: type[SqlTable]) -> tuple[str, str]:
    """Return what is stored of a table instead of a key and indexes; another one is refused."""
    text = table.create if isinstance(table.create, str) else repr(sorted(table.create.items()))
    return "", hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def name_in(name: str, generation: int) -> str:
    """Return what a table is called in a generation; the number keeps it off all others."""
    return f"own_{name}_{generation}"


def statements_of(table: type[SqlTable], generation: int, *, engine: str) -> str:
    """Return what makes a table in a generation.

    Raises:
        ConfigurationError: it is not declared for this engine.
    """
    found = table.create if isinstance(table.create, str) else table.create.get(engine)
    if found is None:
        reason = f"has no create for {engine}: add it, or use another engine for views"
        raise ConfigurationError(subject=table.__name__, reason=reason)
    return _PLACE.sub(lambda place: name_in(place[1], generation), found)
