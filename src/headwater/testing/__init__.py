"""Testing: given/when/then for domains, histories, and the suites that every backend passes.

`headwater.testing.history` records what was asked and answered, and lets the log judge it. The
suites (`headwater.testing.views`, ...) need pytest: ``pip install headwater[testing]``.
"""

from headwater.testing.decisions import Given, Outcome, given

__all__ = ["Given", "Outcome", "given"]
