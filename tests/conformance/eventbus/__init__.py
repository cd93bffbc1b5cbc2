"""Event buses against the shared suite, with readable assertions."""

import pytest

pytest.register_assert_rewrite("headwater.testing.eventbus")
