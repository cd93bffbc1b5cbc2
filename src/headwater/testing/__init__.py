"""Testing: given/when/then for domains, and the conformance suites that every backend passes.

The suites (`headwater.testing.views`, ...) need pytest: ``pip install headwater[testing]``.
"""

from headwater.testing.given import Given, Outcome, given

__all__ = ["Given", "Outcome", "given"]
