"""Insights: what the bank can tell about the money that moved."""

from typing import Annotated

from msgspec import Meta

from headwater import Index, Key, Query, View, route


class MonthlyTurnover(View):
    """What an account received in one month."""

    id: Annotated[str, Key]
    account_id: Annotated[str, Index] = ""
    month: str = ""
    amount: int = 0
    transfers: int = 0


class Spending(View):
    """What an account has paid to others."""

    id: Annotated[str, Key]
    amount: Annotated[int, Index] = 0
    transfers: int = 0


@route("GET /insights/turnover/{account_id}")
class GetTurnover(Query[list[MonthlyTurnover]]):
    """What an account received, month by month."""

    account_id: str


@route("GET /insights/top-customers")
class GetTopCustomers(Query[list[Spending]]):
    """The accounts that paid most."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 10
