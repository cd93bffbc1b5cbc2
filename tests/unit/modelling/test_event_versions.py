"""What versions of events mean for the classes that handle them."""

from typing import Annotated, Any, ClassVar

import pytest

from headwater.errors import DeclarationError
from headwater.messages import Event, Tag, Upcast, upcaster, upcasting, wire
from headwater.modelling import Aggregate, DecisionModel, event_sourcing_handler
from headwater.modelling.state import aggregate_type, model_type
from tests.unit.modelling.older_event_rules import Aged, User


def test_a_missing_step_is_refused_at_declaration() -> None:
    """An aggregate or decision model of an event that cannot be lifted is refused."""

    @wire("old.Gap", version=2)
    class Gap(Event):
        user_id: str

    class Gaps(Aggregate):
        @event_sourcing_handler
        def gap(self, event: Gap) -> None: ...

    class GapModel(DecisionModel):
        user_id: Annotated[str, Tag] = ""

        @event_sourcing_handler
        def gap(self, event: Gap) -> None: ...

    for compile_one in (lambda: aggregate_type(Gaps), lambda: model_type(GapModel)):
        with pytest.raises(DeclarationError, match=r"add @upcaster\(Gap, from_version=1\)"):
            compile_one()


def test_versions_of_events_discard_snapshots() -> None:
    """Snapshots from before an event got another version, or a new source, are ignored."""
    before = aggregate_type(User).fingerprint

    @wire("old.Merged", version=2)
    class Merged(Event):
        user_id: str

    upcaster(Merged, from_version=1, into=[Aged])(lambda content: Upcast(Aged, 1, content))
    aggregate_type.cache_clear()
    try:
        assert aggregate_type(User).fingerprint != before
    finally:
        del upcasting._SOURCES[Aged][Merged]
        aggregate_type.cache_clear()
    assert aggregate_type(User).fingerprint == before


def test_a_domain_may_have_revisions_of_its_own() -> None:
    """A field, property or method called like the revision is what the domain says it is."""

    class Document(Aggregate):
        revision: int = 0  # type: ignore[misc]  # a field of the domain

    class Computed(Aggregate):
        @property
        def revision(self) -> int:  # type: ignore[override]  # of the domain
            return 7

    assert aggregate_type(Document).fingerprint
    assert aggregate_type(Computed).fingerprint
    assert (Document(revision=3).revision, Computed().revision) == (3, 7)


@pytest.mark.parametrize(("one", "other", "same"), [(1, 1, True), (1, 2, False), ("a", "b", False)])
def test_each_revision_has_its_fingerprint(one: Any, other: Any, same: bool) -> None:
    """Snapshots of two revisions of a class are told apart, whatever they are called."""

    def fingerprint(value: Any) -> str:
        class Versioned(Aggregate):
            revision: ClassVar[Any] = value

        return aggregate_type(Versioned).fingerprint

    assert (fingerprint(one) == fingerprint(other)) is same
