"""What opens the view stores of a URL scheme."""

from collections.abc import Awaitable, Callable

from headwater.engines import Engine
from headwater.views.api import ViewStore


class ViewStoreEngine(Engine, frozen=True, kw_only=True):
    """An engine of view stores: registered in the group ``headwater.viewstores``.

    Attributes:
        open: opens the store that a URL names, and makes it if there is none.
        sql: what `Sql.engine` of its stores is; empty: they have no SQL.
    """

    open: Callable[[str], Awaitable[ViewStore]]
    sql: str = ""
