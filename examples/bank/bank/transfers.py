"""The transfers service: a saga moves the money across two accounts, or puts it back."""

from datetime import timedelta

import msgspec

from bank.contracts.accounts import (
    AmountNotPositive,
    DepositMoney,
    MoneyDeposited,
    MoneyWithdrawn,
    WithdrawMoney,
)
from bank.contracts.transfers import (
    CompleteTransfer,
    CountTransfers,
    FailTransfer,
    FindTransfers,
    FlagTransfer,
    GetTransfer,
    RequestTransfer,
    TransferCompleted,
    TransferCounts,
    TransferFailed,
    TransferFlagged,
    TransferRequested,
    TransferTooLarge,
    TransferView,
)
from headwater import (
    Aggregate,
    CommandMessage,
    CommandNext,
    CommandResult,
    Deadline,
    Effects,
    End,
    HeadwaterError,
    Projection,
    Saga,
    Service,
    command_handler,
    deadline_handler,
    event_handler,
    event_sourcing_handler,
    intercepts,
    query_handler,
    rejection_handler,
    saga_handler,
)


class Transfer(Aggregate):
    """What is known of one transfer."""

    requested: TransferRequested | None = None
    settled: bool = False

    @command_handler(creates=True)
    def request(self, command: RequestTransfer) -> TransferRequested:
        """Accept a transfer of something."""
        if command.amount < 1:
            raise AmountNotPositive(amount=command.amount)
        return TransferRequested(
            command.transfer_id, command.source, command.target, command.amount, command.booked_on
        )

    @command_handler
    def complete(self, _: CompleteTransfer) -> TransferCompleted | None:
        """Settle it, once."""
        asked = self.requested
        if self.settled or asked is None:
            return None
        return TransferCompleted(
            asked.transfer_id, asked.source, asked.target, asked.amount, asked.booked_on
        )

    @command_handler
    def fail(self, command: FailTransfer) -> TransferFailed | None:
        """Settle it as failed, once."""
        return None if self.settled else TransferFailed(command.transfer_id, command.reason)

    @command_handler
    def flag(self, command: FlagTransfer) -> TransferFlagged | None:
        """Ask for attention, unless it is settled."""
        return None if self.settled else TransferFlagged(command.transfer_id, command.reason)

    @event_sourcing_handler
    def on_requested(self, event: TransferRequested) -> None:
        """Remember what was asked."""
        self.requested = event

    @event_sourcing_handler
    def on_completed(self, _: TransferCompleted) -> None:
        """Note the end."""
        self.settled = True

    @event_sourcing_handler
    def on_failed(self, _: TransferFailed) -> None:
        """Note the end."""
        self.settled = True


class MoneyTransfer(Saga):
    """Withdraw, then deposit; when the deposit is refused, give the money back."""

    saga_source = "bus"
    saga_start = "beginning"  # a command that it sends once more has its effect once

    source: str = ""
    target: str = ""
    amount: int = 0
    refusal: str = ""

    @saga_handler(key="transfer_id", starts=True)
    def requested(self, event: TransferRequested) -> Effects:
        """Begin with the withdrawal."""
        self.source, self.target, self.amount = event.source, event.target, event.amount
        return [
            WithdrawMoney(event.source, event.amount, reference=self.id),
            Deadline("late", after=timedelta(minutes=15)),
        ]

    @saga_handler(key="reference")
    def withdrawn(self, event: MoneyWithdrawn) -> Effects:
        """Go on with the deposit."""
        return DepositMoney(self.target, event.amount, reference=self.id)

    @saga_handler(key="reference")
    def deposited(self, event: MoneyDeposited) -> Effects:
        """End: the money has arrived, or it is back."""
        if self.refusal:
            return [FailTransfer(self.id, self.refusal), End()]
        return [CompleteTransfer(self.id), End()]

    @rejection_handler
    def not_withdrawn(self, command: WithdrawMoney, rejection: HeadwaterError) -> Effects:
        """End: nothing has moved."""
        return [FailTransfer(self.id, rejection.message), End()]

    @rejection_handler
    def not_deposited(self, command: DepositMoney, rejection: HeadwaterError) -> Effects:
        """Compensate: give the money back to the source."""
        if self.refusal:  # even the source refuses: a person must look at it
            return FlagTransfer(self.id, f"cannot be given back: {rejection.message}")
        self.refusal = rejection.message
        return DepositMoney(self.source, self.amount, reference=self.id)

    @deadline_handler("late")
    def late(self) -> Effects:
        """Ask for a person's attention."""
        return FlagTransfer(self.id, "not settled after 15 minutes")


class Transfers(Projection):
    """Transfers and how they ended."""

    @event_handler(TransferView, key="transfer_id")
    def requested(self, event: TransferRequested) -> TransferView:
        """Show the transfer."""
        return TransferView(
            id=event.transfer_id,
            source=event.source,
            target=event.target,
            amount=event.amount,
            booked_on=event.booked_on,
        )

    @event_handler(TransferView, key="transfer_id")
    def completed(self, view: TransferView, _: TransferCompleted) -> None:
        """Show that the money has arrived."""
        view.status = "completed"
        view.settlements += 1

    @event_handler(TransferView, key="transfer_id")
    def failed(self, view: TransferView, event: TransferFailed) -> None:
        """Show why not."""
        view.status, view.reason = "failed", event.reason
        view.settlements += 1

    @event_handler(TransferView, key="transfer_id")
    def flagged(self, view: TransferView, event: TransferFlagged) -> None:
        """Show that somebody must look."""
        view.flagged, view.reason = True, event.reason

    @query_handler
    async def one(self, query: GetTransfer) -> TransferView | None:
        """Answer with one transfer."""
        return await self.views.get(TransferView, query.transfer_id)

    @query_handler
    async def find(self, query: FindTransfers) -> list[TransferView]:
        """Answer with the transfers of an account."""
        where = {"source": query.source}
        page = await self.views.find(TransferView, where=where, limit=query.limit)
        return page.items

    @query_handler
    async def count(self, _: CountTransfers) -> TransferCounts:
        """Answer with the number of each status."""
        return TransferCounts(
            **{
                status: await self.views.count(TransferView, where={"status": status})
                for status in ("requested", "completed", "failed")
            }
        )


class Limits(msgspec.Struct, frozen=True):
    """Section ``limits`` of the configuration; a change takes effect at once."""

    largest_transfer: int = 100_000_00


@intercepts
async def within_limits(
    message: CommandMessage[RequestTransfer], proceed: CommandNext
) -> CommandResult:
    """Refuse transfers above the configured limit."""
    amount, limit = message.command.amount, limits.current.largest_transfer
    if amount > limit:
        raise TransferTooLarge(amount=amount, limit=limit)
    return await proceed(message)


service = Service(
    "transfers",
    aggregates=[Transfer],
    projections=[Transfers],
    sagas=[MoneyTransfer],
    interceptors=[within_limits],
    version="1.0",
)
limits = service.settings(Limits, prefix="limits")
