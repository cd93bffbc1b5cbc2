"""The event store in PostgreSQL behaves as the model in memory does, whatever is done to both."""

import uuid
from typing import ClassVar

import pytest
from hypothesis import settings

from headwater.eventstore.postgres import PostgresEventStore
from tests.integration.eventstore.test_stateful import Comparison
from tests.postgres_server import execute


class PostgresComparison(Comparison):
    """The same comparison, each time in a schema of its own."""

    server: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.schema = f"t_{uuid.uuid4().hex}"

    async def _open(self) -> PostgresEventStore:  # type: ignore[override]  # another backend
        url = f"{self.server}{'&' if '?' in self.server else '?'}schema={self.schema}"
        return await PostgresEventStore.open(url, clock=self.clock, readers=1)

    def teardown(self) -> None:
        super().teardown()
        execute(self.server, f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")


PostgresComparison.TestCase.settings = settings(Comparison.TestCase.settings, max_examples=25)


class TestPostgresAgainstTheModel(PostgresComparison.TestCase):
    """PostgreSQL and memory give the same answers to any sequence of requests."""

    @pytest.fixture(autouse=True)
    def at(self, postgres_server: str) -> None:
        PostgresComparison.server = postgres_server
