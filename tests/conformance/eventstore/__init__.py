"""Event stores against the shared suite, with readable assertions."""

import pytest

for part in ("append", "base", "conditions", "follow", "import", "keys", "read", "shards"):
    pytest.register_assert_rewrite(f"headwater.testing.eventstore_{part}")
