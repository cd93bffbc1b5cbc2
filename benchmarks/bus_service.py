"""A service of its own process that keeps a view of another one's events; prints its URL."""

import asyncio
import sys
from typing import Annotated

import uvloop

from benchmarks.bank import AccountOpened, MoneyWithdrawn
from headwater.messages import Query, route
from headwater.modelling import Projection, event_handler, query_handler
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.views import Key, View


class Spent(View):
    """What was spent from an account."""

    account: Annotated[str, Key]
    cents: int = 0


@route("GET /spent/{account}")
class GetSpent(Query[Spent]):
    """One account."""

    account: str


class Spending(Projection):
    """What was spent."""

    source = "bus"

    @event_handler(Spent, key="account_id")
    def opened(self, event: AccountOpened) -> Spent:
        """Nothing yet."""
        return Spent(event.account_id)

    @event_handler(Spent, key="account_id")
    def withdrawn(self, view: Spent, event: MoneyWithdrawn) -> None:
        """Add."""
        view.cents += event.amount

    @query_handler
    async def one(self, query: GetSpent) -> Spent | None:
        """Answer."""
        return await self.views.get(Spent, query.account)


async def main(views: str, bus: str) -> None:
    """Serve until standard input ends."""
    service = Service("spending", projections=[Spending])
    given = {"views": views, "bus": bus, "log_level": "error"}
    async with Runtime(service, given) as runtime:
        sys.stdout.write(f"{runtime.url}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
