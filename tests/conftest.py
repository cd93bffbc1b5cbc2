"""What holds for all tests: the shipped suites fail as readably as tests do."""

import signal

import pytest

from tests.postgres_server import own_postgres, postgres_server, postgres_url

pytest.register_assert_rewrite("headwater.testing")

# A shell that starts tests in the background lets them ignore Ctrl-C, and so what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["own_postgres", "postgres_server", "postgres_url"]
