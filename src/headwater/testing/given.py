"""``given(subject, events...)``: one beginning for the tests of all that handles messages.

::

    given(Account, Deposited("7", 10)).when(Withdraw("7", 4)).then(Withdrawn("7", 4))

    given(MoneyTransfer, requested).when(withdrawn).then(DepositMoney("b", 5, "t"))
    given(MoneyTransfer, requested).after(timedelta(minutes=15)).then(FlagTransfer("t", "late"))

    await given(Accounts, opened, withdrawn).then(AccountView("a", balance=-5))
"""

from typing import Any, TypeVar, overload

from headwater.messages import Event
from headwater.modelling import Aggregate, DecisionModel, EventHandlers, Saga
from headwater.testing.decisions import Given
from headwater.testing.scenarios import ProjectionScenario, SagaScenario

S = TypeVar("S", bound=Saga)


@overload
def given(subject: type[Aggregate] | type[DecisionModel], *events: Event) -> Given: ...
@overload
def given(subject: type[S], *events: Event, id: str = "") -> SagaScenario[S]: ...
@overload
def given(subject: type[EventHandlers] | EventHandlers, *events: Event) -> ProjectionScenario: ...
def given(subject: Any, *events: Event, id: str = "") -> Any:
    """Begin a test with what has happened before.

    Args:
        subject: the class under test; of a projection, or of other event handlers, also an object.
        *events: oldest first. For an aggregate the events of its own stream; for a decision model
            all events, of which it sees those inside its boundary; for a saga and a projection
            what they handle, whose effects are not compared.
        id: of the saga, where an event is for several; else that of the first event.
    """
    if isinstance(subject, type) and issubclass(subject, Aggregate | DecisionModel):
        return Given(subject).and_given(*events)
    if isinstance(subject, type) and issubclass(subject, Saga):
        return SagaScenario(subject, id).and_given(*events)
    return ProjectionScenario(subject).and_given(*events)
