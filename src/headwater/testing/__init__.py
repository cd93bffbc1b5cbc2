"""Testing: given/when/then for domains, histories, and the suites that every backend passes.

`headwater.testing.history` records what was asked and answered, and lets the log judge it. The
suites (`headwater.testing.views`, ...) need pytest: ``pip install headwater[testing]``.
"""

from headwater.testing.decisions import Given, Outcome
from headwater.testing.given import given
from headwater.testing.scenarios import ProjectionScenario, SagaScenario

__all__ = ["Given", "Outcome", "ProjectionScenario", "SagaScenario", "given"]
