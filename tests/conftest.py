"""What holds for all tests: the shipped suites fail as readably as tests do, servers are named."""

import os
import re
import signal

import pytest

from tests import rabbitmq_server as rabbitmq
from tests.exploring import (
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_runtest_makereport,
    pytest_terminal_summary,
    register_profiles,
    skip_when_late,
)
from tests.kafka_server import FIXTURES as KAFKA_FIXTURES
from tests.kafka_server import fresh_kafka, kafka_server, kafka_url, own_kafka, skip_without_kafka
from tests.postgres_server import (
    FIXTURES,
    fresh_postgres,
    own_postgres,
    postgres_server,
    postgres_url,
    version,
)
from tests.rabbitmq_server import amqp_broker, own_rabbitmq, rabbitmq_server, rabbitmq_url

pytest.register_assert_rewrite("headwater.testing")

register_profiles()

# Settings of whoever runs the tests are not for the programs under test: only ours are kept.
_FOREIGN = re.compile(
    r"(?i)HEADWATER_(?!KAFKA_|POSTGRES_|RABBITMQ_|BENCH_)|PG[A-Z]|.*_PROXY$|(FORCE|NO)_COLOR$"
)
for _name in filter(_FOREIGN.match, list(os.environ)):
    del os.environ[_name]

# A shell that starts tests in the background lets them ignore Ctrl-C, nohup lets them ignore that
# their terminal was closed, and so what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_report_header() -> str:
    """Say which PostgreSQL the tests use."""
    return f"server: {version()}"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark every test that uses a server, so that `-m postgres` leaves none out."""
    used = getattr(item, "fixturenames", ())
    if not FIXTURES.isdisjoint(used):
        item.add_marker(pytest.mark.postgres)
    if not KAFKA_FIXTURES.isdisjoint(used):
        item.add_marker(pytest.mark.kafka)
    if not rabbitmq.FIXTURES.isdisjoint(used):
        item.add_marker(pytest.mark.rabbitmq)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what would begin too late, or has no server to begin with."""
    skip_when_late(item)
    rabbitmq.skip_without_server(item)
    skip_without_kafka(item)


__all__ = [
    "amqp_broker",
    "fresh_kafka",
    "fresh_postgres",
    "kafka_server",
    "kafka_url",
    "own_kafka",
    "own_postgres",
    "own_rabbitmq",
    "postgres_server",
    "postgres_url",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_runtest_makereport",
    "pytest_terminal_summary",
    "rabbitmq_server",
    "rabbitmq_url",
]
