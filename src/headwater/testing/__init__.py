"""Testing: given/when/then for domains, services in the process, suites that every backend passes.

`given` begins the test of a class, `running` that of whole services.
`headwater.testing.history` records what was asked and answered, and lets the log judge it. The
suites (`headwater.testing.views`, ...) need pytest: ``pip install headwater[testing]``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headwater.testing.decisions import Decided, Given
from headwater.testing.given import given
from headwater.testing.scenarios import ProjectionScenario, SagaScenario

if TYPE_CHECKING:
    from headwater.testing.in_process import Running, running
    from headwater.testing.settling import Unsettled

_HOMES = {
    "Running": "headwater.testing.in_process",
    "Unsettled": "headwater.testing.settling",
    "running": "headwater.testing.in_process",
}


def __getattr__(name: str) -> Any:
    """Load what needs a whole service on first use, so that tests of domains stay quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


__all__ = [
    "Decided",
    "Given",
    "ProjectionScenario",
    "Running",
    "SagaScenario",
    "Unsettled",
    "given",
    "running",
]
