"""The logs as witnesses: whatever callers were told must be what is stored, killed or not."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from bank.accounts import Account
from bank.contracts.accounts import (
    DepositMoney,
    GetAccount,
    OpenAccount,
    UnknownCustomer,
    WithdrawMoney,
)
from bank.contracts.customers import RegisterCustomer
from bank.contracts.transfers import RequestTransfer, TransferTooLarge
from bank.customers import Customer
from bank.transfers import Transfer
from headwater.eventstore import StoredEvent
from headwater.messages import message_type
from headwater.service.engines import open_event_store
from headwater.testing.history import (
    AggregateRules,
    Answer,
    Ask,
    Done,
    History,
    Pending,
    Send,
    Verdict,
    ViewRules,
    canonical,
    check_store,
    place_of,
    refused_by,
)

_SENT = (
    ("customers", Customer, RegisterCustomer),
    ("accounts", Account, OpenAccount),
    ("accounts", Account, DepositMoney),
    ("accounts", Account, WithdrawMoney),
    ("transfers", Transfer, RequestTransfer),
)
_BY_SAGAS = {"TransferCompleted", "TransferFailed", "TransferFlagged"}
RULES = {
    "customers": [AggregateRules(Customer)],
    # An interceptor adds to OpenAccount whether the customer could be asked for.
    "accounts": [AggregateRules(Account, altered=[OpenAccount], elsewhere=[UnknownCustomer])],
    "transfers": [AggregateRules(Transfer, elsewhere=[TransferTooLarge])],
}


def _account(view: dict[str, Any] | None, event: StoredEvent) -> dict[str, Any]:
    """Return what is shown of an account after one more event."""
    content = msgspec.json.decode(event.data)
    if view is None:
        customer = content["customer_id"]
        view = {"customer_id": customer, "balance": 0, "movements": 0, "open": True}
        return {"id": content["account_id"], **view}
    sign = {"MoneyDeposited": 1, "MoneyWithdrawn": -1}[event.type]
    moved = {"movements": view["movements"] + 1}
    return {**view, **moved, "balance": view["balance"] + sign * content["amount"]}


VIEWS = [
    ViewRules(
        GetAccount,
        stream=lambda query: f"Account/{query['account_id']}",
        fold=_account,
        monotonic=True,  # the instances of the query side share one view store
    )
]


class Attempt:
    """One request, and what is to be sent along with it."""

    def __init__(self, call: Pending | None = None) -> None:
        self._call = call
        asked = call.call.request if call is not None else None
        self.headers: dict[str, str] = {}
        if isinstance(asked, Send):
            self.headers["Headwater-Correlation-Id"] = asked.conversation

    def answered(self, status: int, content: Any) -> None:
        """Note what was answered."""
        if self._call is None:
            return
        if status >= 500:
            self._call.answer(None)  # perhaps by the gateway, which may have repeated it
        elif status >= 400:
            self._call.answer(refused_by(content, status))
        elif isinstance(self._call.call.request, Send):
            version, duplicate = content["version"], content["duplicate"]
            position, _ = place_of(content["token"])
            self._call.answer(Done(version, position, duplicate))
        else:
            self._call.answer(Answer(canonical(content)))


class Witness:
    """Records what is sent to the bank, and lets the logs of its services judge it."""

    def __init__(self) -> None:
        self.history = History()

    @contextmanager
    def attempt(
        self, path: str, content: dict[str, Any] | None, *, key: str, token: str
    ) -> Iterator[Attempt]:
        """Record a request while it is under way; queries for lists are not recorded."""
        call = self._called(path, content, key, token)
        if call is None:
            yield Attempt()
            return
        with call:
            yield Attempt(call)

    def _called(
        self, path: str, content: dict[str, Any] | None, key: str, token: str
    ) -> Pending | None:
        if content is None:
            found = _parameters(GetAccount, path)
            if found is None:
                return None
            asked = Ask("GetAccount", canonical(found), *place_of(token, "accounts"))
            return self.history.call(asked, session=found["account_id"], source="accounts")
        for service, aggregate, command in _SENT:
            found = _parameters(command, path)
            if found is not None:
                kind, whole = message_type(command), {**found, **content}
                stream = f"{aggregate.__name__}/{whole[kind.target]}"
                return self.history.command(stream, kind.name, whole, key=key, source=service)
        return None

    async def judge(self, urls: dict[str, str]) -> Verdict:
        """Compare what was recorded with the event stores of the services, given by URL."""
        verdict = Verdict(0, 0)
        for service, url in urls.items():
            store = await open_event_store(url)
            try:
                verdict += await check_store(
                    self.history.of(service),
                    store,
                    rules=RULES[service],
                    views=VIEWS,
                    foreign=_is_by_sagas,
                )
            finally:
                await store.close()
        return verdict


def _parameters(message: type, path: str) -> dict[str, str] | None:
    """Return what a path says, when it is that of a message."""
    pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/?]+)", message_type(message).route.path)
    found = re.fullmatch(pattern, path)
    return None if found is None else found.groupdict()


def _is_by_sagas(event: StoredEvent) -> bool:
    """Whether an event belongs to a transfer, which moves money by itself."""
    reference = msgspec.json.decode(event.data).get("reference", "")
    return event.type in _BY_SAGAS or re.fullmatch(r"p\d+", reference) is not None


SERVICES: Sequence[str] = tuple(RULES)
