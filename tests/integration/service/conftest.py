"""A running service and an HTTP session for it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from headwater.service.runtime import Runtime
from tests.integration.service.shop import make_service


@pytest.fixture
async def runtime(tmp_path) -> AsyncIterator[Runtime]:
    """A running instance with small limits."""
    given = {
        "data": str(tmp_path),
        "max_in_progress": 2,
        "max_body_bytes": 1000,
        "consistency_timeout_s": 0.2,
        "request_timeout_s": 5.0,
        "drain_s": 5.0,
    }
    async with Runtime(make_service(), given) as running:
        yield running


@pytest.fixture
async def http(runtime) -> AsyncIterator[aiohttp.ClientSession]:
    """A session whose base URL is the running instance."""
    async with aiohttp.ClientSession(runtime.url) as session:
        yield session
