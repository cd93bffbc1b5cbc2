"""Customers: who they are; no two share an e-mail address."""

from typing import Annotated, Protocol

from msgspec import Meta

from headwater import Command, Event, Index, Key, Query, Rejection, Tag, View, route
from headwater.client import client, get

Email = Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+$", max_length=200)]


@route("POST /customers")
class RegisterCustomer(Command):
    """Register a customer under an e-mail address that nobody else has."""

    customer_id: str
    name: str
    email: Email


@route("PUT /customers/{customer_id}/email")
class ChangeEmail(Command):
    """Give a customer another e-mail address."""

    customer_id: str
    email: Email


class CustomerRegistered(Event):
    """A customer was registered."""

    customer_id: str
    name: str
    email: Annotated[str, Tag("email")]


class EmailChanged(Event):
    """A customer has another e-mail address; the former one is free again."""

    customer_id: str
    email: Annotated[str, Tag("email")]
    former: Annotated[str, Tag("email")]


class EmailTaken(Rejection):
    """Another customer has this e-mail address."""

    status = 409
    email: str
    template = "e-mail address {email!r} belongs to another customer: use another one"


class CustomerView(View):
    """A customer as others see it."""

    id: Annotated[str, Key]
    name: str
    email: Annotated[str, Index]


@route("GET /customers/{customer_id}")
class GetCustomer(Query[CustomerView]):
    """One customer."""

    customer_id: str


@route("GET /customers")
class FindCustomers(Query[list[CustomerView]]):
    """Customers by e-mail address, or the first ones by id."""

    email: str = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class DirectoryDown:
    """What to assume while the customers service is away: we do not know."""

    def __init__(self, cause: Exception) -> None:
        """Keep the cause."""
        self.cause = cause

    async def customer(self, customer_id: str) -> CustomerView | None:
        """Return an unnamed customer: whoever asks decides what that is worth."""
        return CustomerView(id=customer_id, name="", email="")


@client("customers", fallback=DirectoryDown)
class CustomerDirectory(Protocol):
    """How other services ask for customers."""

    @get("/customers/{customer_id}", timeout_s=2.0, retries=2)
    async def customer(self, customer_id: str) -> CustomerView | None:
        """Return a customer, or None."""
        ...
