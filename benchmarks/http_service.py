"""The benchmarks' bank as a service of its own process; prints its URL when it is up."""

import asyncio
import sys
from typing import Annotated

import uvloop

from benchmarks.bank import Account, AccountOpened, MoneyWithdrawn, OpenAccount, WithdrawMoney
from headwater.messages import Query, route
from headwater.modelling import Projection, event_handler, query_handler
from headwater.service import Service
from headwater.service.runtime import Runtime
from headwater.views import Key, View

ACCOUNTS = 1000

route("POST /accounts/{account_id}/withdrawals")(WithdrawMoney)


class AccountView(View):
    """An account."""

    id: Annotated[str, Key]
    holder: str
    balance: int = 0


@route("GET /accounts/{account_id}")
class GetAccount(Query[AccountView]):
    """One account."""

    account_id: str


class Accounts(Projection):
    """Accounts."""

    @event_handler(AccountView, key="account_id")
    def opened(self, event: AccountOpened) -> AccountView:
        """Show it."""
        return AccountView(event.account_id, event.holder)

    @event_handler(AccountView, key="account_id")
    def withdrawn(self, view: AccountView, event: MoneyWithdrawn) -> None:
        """Subtract."""
        view.balance -= event.amount

    @query_handler
    async def one(self, query: GetAccount) -> AccountView | None:
        """Answer."""
        return await self.views.get(AccountView, query.account_id)


def bank_service() -> Service:
    """Make the service."""
    return Service("bench", aggregates=[Account], projections=[Accounts])


async def main(data: str, role: str) -> None:
    """Serve until standard input ends."""
    async with Runtime(
        bank_service(), {"data": data, "role": role, "log_level": "error"}
    ) as runtime:
        if runtime.settings.commands:
            sent = (runtime.commands.send(OpenAccount(f"{n}", "holder")) for n in range(ACCOUNTS))
            results = await asyncio.gather(*sent)
            if runtime.settings.queries:
                await runtime.queries.ask(GetAccount("0"), token=results[-1].token)
        sys.stdout.write(f"{runtime.url}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
