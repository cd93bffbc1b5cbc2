"""The customers service."""

from typing import Annotated

from bank.contracts.customers import (
    ChangeEmail,
    CustomerRegistered,
    CustomerView,
    EmailChanged,
    EmailTaken,
    FindCustomers,
    GetCustomer,
    RegisterCustomer,
)
from headwater import (
    Aggregate,
    DecisionModel,
    Projection,
    Service,
    Tag,
    command_handler,
    event_handler,
    event_sourcing_handler,
    query_handler,
)


class EmailAddress(DecisionModel):
    """Who has an e-mail address: a decision over all events that carry its tag."""

    email: Annotated[str, Tag("email")] = ""
    owner: str = ""

    @event_sourcing_handler
    def registered(self, event: CustomerRegistered) -> None:
        """Note the first owner."""
        self.owner = event.customer_id

    @event_sourcing_handler
    def changed(self, event: EmailChanged) -> None:
        """Note a new owner, or that there is none any more."""
        self.owner = event.customer_id if event.email == self.email else ""


class Customer(Aggregate):
    """One customer."""

    name: str = ""
    email: str = ""

    @command_handler(creates=True)
    def register(self, command: RegisterCustomer, address: EmailAddress) -> CustomerRegistered:
        """Register under an address that is free."""
        if address.owner:
            raise EmailTaken(email=command.email)
        return CustomerRegistered(command.customer_id, command.name, command.email)

    @command_handler
    def change(self, command: ChangeEmail, address: EmailAddress) -> EmailChanged | None:
        """Change to an address that is free; the same one changes nothing."""
        if command.email == self.email:
            return None
        if address.owner:
            raise EmailTaken(email=command.email)
        return EmailChanged(command.customer_id, command.email, self.email)

    @event_sourcing_handler
    def registered(self, event: CustomerRegistered) -> None:
        """Take name and address."""
        self.name, self.email = event.name, event.email

    @event_sourcing_handler
    def changed(self, event: EmailChanged) -> None:
        """Take the new address."""
        self.email = event.email


class Customers(Projection):
    """Customers by id and by e-mail address."""

    @event_handler(CustomerView, key="customer_id")
    def registered(self, event: CustomerRegistered) -> CustomerView:
        """Show the customer."""
        return CustomerView(id=event.customer_id, name=event.name, email=event.email)

    @event_handler(CustomerView, key="customer_id")
    def changed(self, view: CustomerView, event: EmailChanged) -> None:
        """Show the new address."""
        view.email = event.email

    @query_handler
    async def one(self, query: GetCustomer) -> CustomerView | None:
        """Answer with one customer."""
        return await self.views.get(CustomerView, query.customer_id)

    @query_handler
    async def find(self, query: FindCustomers) -> list[CustomerView]:
        """Answer with some customers."""
        where = {"email": query.email} if query.email else None
        page = await self.views.find(CustomerView, where=where, limit=query.limit)
        return page.items


service = Service("customers", aggregates=[Customer], projections=[Customers], version="1.0")
