"""What has the name of something else in a service is refused, naming both and the remedy."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Annotated, Any

import pytest
from litestar import get

from headwater.errors import DeclarationError
from headwater.messages import Query, wire
from headwater.modelling import (
    command_handler,
)
from headwater.processing.internal_views import INTERNAL_VIEWS
from headwater.service import Service
from headwater.service.openapi import openapi_document
from headwater.views import Key, View, view_type
from tests.unit.service.name_makers import (
    Account,
    Open,
    aggregate,
    answering,
    command,
    deciding,
    derived,
    event,
    following,
    handlers,
    model,
    projection,
    query,
    refusing,
    rejection,
    returning,
    saga,
    sourced,
    taking,
    view,
)


@get("/reports/{year:int}")
async def report(year: int) -> str:
    """Stand for a route of a service's own."""
    return str(year)


Case = Callable[[], Service]

PAIRS: dict[str, tuple[Case, str, str, str]] = {
    "aggregates": (
        lambda: Service(
            "s", aggregates=[aggregate("Order"), aggregate("Old", stream_name="Order")]
        ),
        f"{__name__}.Order",
        f"{__name__}.Old",
        "stream_name",
    ),
    "an aggregate and one that derives from it": (
        lambda: Service(
            "s",
            aggregates=[
                base := aggregate("Base", stream_name="order"),
                type("Special", (base,), {"__module__": __name__}),
            ],
        ),
        f"{__name__}.Base",
        f"{__name__}.Special",
        "stream_name",
    ),
    "a decision model and an aggregate": (
        lambda: Service(
            "s", aggregates=[aggregate("Seat")], decisions=[model("Seats", stream_name="Seat")]
        ),
        f"{__name__}.Seats",
        f"{__name__}.Seat",
        "stream_name",
    ),
    "projections": (
        lambda: Service(
            "s", projections=[projection("Orders"), projection("Other", name="orders")]
        ),
        f"{__name__}.Orders",
        f"{__name__}.Other",
        'name = "..."',
    ),
    "projections whose names are one in kebab case": (
        lambda: Service("s", projections=[projection("HTTPLog"), projection("HttpLog")]),
        f"{__name__}.HTTPLog",
        f"{__name__}.HttpLog",
        'name = "..."',
    ),
    "a projection and event handlers": (
        lambda: Service(
            "s", projections=[projection("Mail")], handlers=[handlers("Mail_", name="mail")]
        ),
        f"{__name__}.Mail",
        f"{__name__}.Mail_",
        'name = "..."',
    ),
    "event handlers": (
        lambda: Service("s", handlers=[handlers("Mailer"), handlers("Mailer2", name="mailer")]),
        f"{__name__}.Mailer",
        f"{__name__}.Mailer2",
        'name = "..."',
    ),
    "a saga and a projection": (
        lambda: Service(
            "s", projections=[projection("Orders")], sagas=[saga("Other", saga_name="Orders")]
        ),
        f"{__name__}.Orders",
        f"{__name__}.Other",
        'name = "..." in the class, or saga_name = "..."',
    ),
    "sagas": (
        lambda: Service("s", sagas=[saga("Payment"), saga("Pay", saga_name="Payment")]),
        f"{__name__}.Payment",
        f"{__name__}.Pay",
        "saga_name",
    ),
    "sagas whose names are one in kebab case": (
        lambda: Service("s", sagas=[saga("TopUp"), saga("Pay", saga_name="top-up")]),
        f"{__name__}.TopUp",
        f"{__name__}.Pay",
        "saga_name",
    ),
    "sagas whose instances could have one id": (
        lambda: Service("s", sagas=[saga("Pay"), saga("Late", saga_name="Pay/late")]),
        f"{__name__}.Pay",
        f"{__name__}.Late",
        "saga_name",
    ),
    "event handlers and the relay": (
        lambda: Service("s", aggregates=[Account], handlers=[handlers("RelayS")]),
        f"{__name__}.RelayS",
        "the relay of service 's'",
        'name = "..."',
    ),
    "views of two projections": (
        lambda: Service(
            "s",
            projections=[
                projection("A", view("Line")),
                projection("B", view("OtherLine", view_name="Line")),
            ],
        ),
        f"{__name__}.Line",
        f"{__name__}.OtherLine",
        "view_name",
    ),
    "views of one projection": (
        lambda: Service(
            "s",
            projections=[projection("A", view_types=(view("Line"), view("L", view_name="Line")))],
        ),
        f"{__name__}.Line",
        f"{__name__}.L",
        "view_name",
    ),
    "views that differ by case": (
        lambda: Service(
            "s", projections=[projection("A", view("Line")), projection("B", view("LINE"))]
        ),
        f"{__name__}.Line",
        f"{__name__}.LINE",
        "view_name",
    ),
    "commands": (
        lambda: Service(
            "s", aggregates=[deciding("A", command("Create"), command("Make", wired="Create"))]
        ),
        f"{__name__}.Create",
        f"{__name__}.Make",
        "@wire",
    ),
    "a command and a former name": (
        lambda: Service(
            "s", aggregates=[deciding("A", command("Create"), command("Make", aliases=("Create",)))]
        ),
        f"{__name__}.Create",
        f"{__name__}.Make",
        "@wire",
    ),
    "queries": (
        lambda: Service(
            "s", projections=[answering("A", query("Count"), query("Sum", wired="Count"))]
        ),
        f"{__name__}.Count",
        f"{__name__}.Sum",
        "@wire",
    ),
    "routes": (
        lambda: Service(
            "s",
            aggregates=[
                deciding("A", command("Ship", "POST /a/{id}/b"), command("Send", "POST /a/{id}/b"))
            ],
        ),
        f"{__name__}.Ship",
        f"{__name__}.Send",
        "@route",
    ),
    "routes that differ by a slash": (
        lambda: Service(
            "s",
            projections=[answering("A", query("Sum", "GET /a/b"), query("Count", "GET /a//b/"))],
        ),
        f"{__name__}.Sum",
        f"{__name__}.Count",
        "@route",
    ),
    "a route and one of the service's own": (
        lambda: Service(
            "s", projections=[answering("A", query("Report", "GET /reports/{id}"))], routes=[report]
        ),
        f"{__name__}.Report",
        f"{__name__}.report",
        "@route",
    ),
    "a route and one of every service": (
        lambda: Service("s", projections=[answering("A", query("Health", "GET /health/live"))]),
        f"{__name__}.Health",
        "a route of every service",
        "@route",
    ),
    "events of two aggregates": (
        lambda: Service(
            "s", aggregates=[sourced("A", event("Moved")), sourced("B", event("Went", "Moved"))]
        ),
        f"{__name__}.Moved",
        f"{__name__}.Went",
        "@wire",
    ),
    "an event and a former name": (
        lambda: Service(
            "s",
            aggregates=[
                sourced("A", event("Moved")),
                sourced("B", event("Went", aliases=("Moved",))),
            ],
        ),
        f"{__name__}.Moved",
        f"{__name__}.Went",
        "@wire",
    ),
    "an event of an aggregate and one of a projection": (
        lambda: Service(
            "s",
            aggregates=[sourced("A", event("Moved"))],
            handlers=[following("H", event("Went", "Moved"))],
        ),
        f"{__name__}.Moved",
        f"{__name__}.Went",
        "@wire",
    ),
    "an event that is only returned": (
        lambda: Service(
            "s",
            aggregates=[
                returning("A", list[event("Moved")] | None),
                returning("B", event("Went", "Moved"), command("B2")),
            ],
        ),
        f"{__name__}.Moved",
        f"{__name__}.Went",
        "@wire",
    ),
    "events that only derive from handled ones": (
        lambda: Service(
            "s",
            aggregates=[sourced("A", derived("Slid", "slid"))],
            handlers=[following("H", derived("Slipped", "slid"))],
        ),
        f"{__name__}.Slid",
        f"{__name__}.Slipped",
        "@wire",
    ),
    "an event of the service and one from the bus": (
        lambda: Service(
            "s",
            aggregates=[sourced("A", event("Moved"))],
            handlers=[following("H", event("Went", "Moved"), source="bus")],
        ),
        f"{__name__}.Moved",
        f"{__name__}.Went",
        "source=",
    ),
    "codes of errors": (
        lambda: Service(
            "s",
            aggregates=[
                refusing("A", Open, rejection("Refused", "no", a=int)),
                refusing("B", command("Again"), rejection("Denied", "no", b=str)),
            ],
        ),
        f"{__name__}.Refused",
        f"{__name__}.Denied",
        "code = ",
    ),
    "codes of errors that sagas handle": (
        lambda: Service(
            "s",
            aggregates=[refusing("A", Open, rejection("Refused", "no", a=int))],
            sagas=[saga("S", refused=taking(rejection("Denied", "no", a=int)))],
        ),
        f"{__name__}.Refused",
        f"{__name__}.Denied",
        "code = ",
    ),
    "the code of an error and one of Headwater's": (
        lambda: Service("s", aggregates=[refusing("A", Open, rejection("Busy", "overloaded"))]),
        f"{__name__}.Busy",
        "headwater.errors.unavailable.Overloaded",
        "code = ",
    ),
    "handlers of one command": (
        lambda: Service("s", aggregates=[deciding("A", Open), deciding("B", Open)]),
        f"{__name__}.A",
        f"{__name__}.B",
        "remove one handler",
    ),
    "handlers of one command, inherited": (
        lambda: Service(
            "s",
            aggregates=[
                base := deciding("A", Open),
                type("B", (base,), {"__module__": __name__}),
            ],
        ),
        f"{__name__}.A",
        f"{__name__}.B",
        "remove one handler",
    ),
    "handlers of one query": (
        lambda: Service(
            "s", projections=[answering("A", one := query("Sum")), answering("B", one)]
        ),
        f"{__name__}.A",
        f"{__name__}.B",
        "remove one handler",
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_two_of_one_name(pair: str) -> None:
    """Two of one name are refused when the service is declared, with both names and the remedy."""
    make, one, other, remedy = PAIRS[pair]
    with pytest.raises(DeclarationError) as refused:
        make()
    assert one in str(refused.value)
    assert other in str(refused.value)
    assert remedy in str(refused.value)


@pytest.mark.parametrize("kind", ["aggregates", "decisions", "projections", "handlers", "sagas"])
def test_listed_twice(kind: str) -> None:
    """The same class twice in a service is refused."""
    makers: dict[str, Callable[[str], type]] = {
        "aggregates": aggregate,
        "decisions": model,
        "projections": projection,
        "handlers": handlers,
        "sagas": saga,
    }
    cls = makers[kind]("Twice")
    with pytest.raises(DeclarationError, match=rf"{__name__}\.Twice: is listed twice in Service"):
        Service("s", **{kind: [cls, cls]})


@pytest.mark.parametrize("cls", INTERNAL_VIEWS)
def test_views_of_our_own(cls: type[View]) -> None:
    """A view is not called like one that processors keep for themselves, whatever its case."""
    for name in (cls.__name__, cls.__name__.upper()):
        with pytest.raises(
            DeclarationError, match=f"view_name.*{name}|{name}.*view_name"
        ) as refused:
            Service("s", projections=[projection("A", view("Mine", view_name=name))])
        assert f"{cls.__module__}.{cls.__qualname__}" in str(refused.value)


def test_every_view_of_our_own_is_known() -> None:
    """Every view type that Headwater stores is among those that are kept free."""
    import headwater.processing as room

    inside = [v for v in View.__subclasses__() if v.__module__.startswith(room.__name__ + ".")]
    assert set(inside) == set(INTERNAL_VIEWS)


def test_commands_that_a_saga_could_not_find_again() -> None:
    """Two commands of one name in the module of a saga are refused: stored ones have only that."""
    module = ModuleType("sending")
    made = saga("Sending")
    made.__module__ = module.__name__
    one, other = command("Create"), command("Make", wired="Create")
    vars(module).update(Create=one, Make=other, Sending=made)
    sys.modules[module.__name__] = module
    try:
        with pytest.raises(DeclarationError, match="Make: has the command name 'Create', which"):
            Service("s", sagas=[made])
        vars(module).update(Make=wire("Make")(other))
        Service("s", sagas=[made])
    finally:
        del sys.modules[module.__name__]


def test_an_error_that_is_reached_through_a_module() -> None:
    """Errors that a handler names by their module are known, too."""
    module = ModuleType("contracts")
    vars(module)["Refused"] = rejection("Refused", "no")
    globals()["contracts"] = module

    def handle(self: Any, command: Open) -> None:
        raise contracts.Refused  # type: ignore[name-defined]  # noqa: F821 - put there above

    one = aggregate("One", handle=command_handler(handle))
    other = refusing("Other", command("Deny"), rejection("Denied", "no"))
    try:
        Service("s", aggregates=[one])
        Service("s", aggregates=[other])
        with pytest.raises(DeclarationError, match=r"Denied: has the error code 'no', .*Refused"):
            Service("s", aggregates=[one, other])
    finally:
        del globals()["contracts"]


@pytest.mark.parametrize("name", ["", "two words", "a-b", "1a", 'x"; DROP'])
def test_names_of_tables(name: str) -> None:
    """A view's tables are called as it says, by letters and digits; like the class if empty."""
    made = view("Line", view_name=name)
    if name:
        with pytest.raises(DeclarationError, match=r"view_name is .*: use letters, digits and _"):
            view_type(made)
    else:
        assert view_type(made).name == "Line"


def test_an_empty_name_of_a_processor() -> None:
    """An empty name is none: the processor is called like its class."""
    assert projection("TopCustomers", name="").name == "top-customers"
    assert projection("TopCustomers", name="others").name == "others"


def test_documents_of_classes_of_one_name() -> None:
    """A command and a view of one class name have schemas of their own in the OpenAPI page."""

    def named() -> Any:
        class Transfer(View):
            id: Annotated[str, Key]
            done: bool = False

        return Transfer

    shown = named()

    class GetTransfer(Query[shown]):  # type: ignore[valid-type]  # made here
        id: str

    document = openapi_document("s", "", [command("Transfer")], [GetTransfer])
    asked = document["paths"]["/commands/Transfer"]["post"]["requestBody"]["content"]
    assert list(asked["application/json"]["schema"]["properties"]) == ["id"]
    answer = document["paths"]["/queries/GetTransfer"]["get"]["responses"]["200"]["content"]
    name = answer["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert list(document["components"]["schemas"][name]["properties"]) == ["id", "done"]


def test_what_may_share_a_name() -> None:
    """Kinds that share nothing may share a name; a view may be kept by several projections."""
    same = view("Order")
    Service(
        "order",
        aggregates=[aggregate("Order"), deciding("Decider", command("Order"))],
        projections=[projection("Order", same), answering("Query", query("Order"))],
        handlers=[following("Handler", event("Order"))],
    )
    Service("s", projections=[projection("A", same), projection("B", same)])
