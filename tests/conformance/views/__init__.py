"""View stores against the shared suite, with readable assertions."""

import pytest

for part in ("views", "views_base", "views_claims", "views_documents"):
    pytest.register_assert_rewrite(f"headwater.testing.{part}")
