"""What holds for all tests: the shipped suites fail as readably as tests do."""

import pytest

pytest.register_assert_rewrite("headwater.testing")
