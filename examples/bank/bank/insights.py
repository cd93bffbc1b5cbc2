"""The insights service: a query side only, fed from the bus, with a database of its own."""

from bank.contracts.insights import GetTopCustomers, GetTurnover, MonthlyTurnover, Spending
from bank.contracts.transfers import TransferCompleted
from headwater import Projection, Service, event_handler, query_handler


def _month(event: TransferCompleted) -> str:
    return f"{event.target}:{event.booked_on:%Y-%m}"


class Insights(Projection):
    """Turnover by month, and who pays most."""

    source = "bus"

    @event_handler(MonthlyTurnover, key=_month)
    def received(self, view: MonthlyTurnover, event: TransferCompleted) -> None:
        """Add to the month."""
        view.account_id, view.month = event.target, f"{event.booked_on:%Y-%m}"
        view.amount += event.amount
        view.transfers += 1

    @event_handler(Spending, key="source")
    def paid(self, view: Spending, event: TransferCompleted) -> None:
        """Add to what the source has paid."""
        view.amount += event.amount
        view.transfers += 1

    @query_handler
    async def turnover(self, query: GetTurnover) -> list[MonthlyTurnover]:
        """Answer with the months of an account."""
        where = {"account_id": query.account_id}
        return (await self.views.find(MonthlyTurnover, where=where, limit=1000)).items

    @query_handler
    async def top(self, query: GetTopCustomers) -> list[Spending]:
        """Answer with those who paid most."""
        page = await self.views.find(
            Spending, order_by="amount", descending=True, limit=query.limit
        )
        return page.items


service = Service("insights", projections=[Insights], version="1.0")
