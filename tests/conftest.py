"""What holds for all tests: the shipped suites fail as readably as tests do."""

import pytest

from tests.postgres_server import own_postgres, postgres_server, postgres_url

pytest.register_assert_rewrite("headwater.testing")

__all__ = ["own_postgres", "postgres_server", "postgres_url"]
