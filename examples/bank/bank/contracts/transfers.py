"""Transfers: money from one account to another, or a reason why not."""

import datetime as dt
from typing import Annotated, Literal

import msgspec

from bank.contracts.money import Cents
from headwater import Command, Event, Index, Key, Query, Rejection, View, route


@route("POST /transfers")
class RequestTransfer(Command):
    """Ask for a transfer; it is settled afterwards. ``booked_on`` is the day it counts for."""

    transfer_id: str
    source: str
    target: str
    amount: Cents
    booked_on: dt.date


class CompleteTransfer(Command):
    """Record that the money has arrived."""

    transfer_id: str


class FailTransfer(Command):
    """Record that the transfer did not happen, and why; the source has its money."""

    transfer_id: str
    reason: str


class FlagTransfer(Command):
    """Record that a transfer needs a person's attention."""

    transfer_id: str
    reason: str


class TransferTooLarge(Rejection):
    """The bank's limit for a single transfer is exceeded."""

    amount: int
    limit: int
    template = "{amount} cents are above the limit of {limit} cents a transfer: split it"


class TransferRequested(Event):
    """A transfer was asked for."""

    transfer_id: str
    source: str
    target: str
    amount: Cents
    booked_on: dt.date


class TransferCompleted(Event):
    """The money has arrived."""

    transfer_id: str
    source: str
    target: str
    amount: Cents
    booked_on: dt.date


class TransferFailed(Event):
    """The transfer did not happen; the source has its money."""

    transfer_id: str
    reason: str


class TransferFlagged(Event):
    """The transfer takes suspiciously long."""

    transfer_id: str
    reason: str


Status = Literal["requested", "completed", "failed"]


class TransferView(View):
    """A transfer as it is shown."""

    id: Annotated[str, Key]
    source: Annotated[str, Index]
    target: Annotated[str, Index]
    amount: int
    booked_on: dt.date
    status: Annotated[Status, Index] = "requested"
    reason: str = ""
    settlements: int = 0
    flagged: bool = False


class TransferCounts(msgspec.Struct, frozen=True):
    """How many transfers there are of each status."""

    requested: int
    completed: int
    failed: int


@route("GET /transfers/{transfer_id}")
class GetTransfer(Query[TransferView]):
    """One transfer."""

    transfer_id: str


@route("GET /transfers")
class FindTransfers(Query[list[TransferView]]):
    """Transfers of a source account."""

    source: str
    limit: int = 100


@route("GET /transfers/summary/counts")
class CountTransfers(Query[TransferCounts]):
    """How many transfers there are of each status."""
