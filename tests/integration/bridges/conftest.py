"""Instances on a broker."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from headwater import Service
from headwater.service.runtime import Runtime
from tests.integration.bridges.peer import Peer


@pytest.fixture
def peer(amqp_broker) -> Peer:
    """Another program on the broker of all tests, with names of its own."""
    return Peer(amqp_broker)


@pytest.fixture
async def run(tmp_path) -> AsyncIterator[Callable[..., Any]]:
    """Starts instances, which share the data of the test; they are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def start(service: Service, peer: Peer, **settings: Any) -> Runtime:
            given = {"data": str(tmp_path), "amqp": peer.broker.amqp_url, **settings}
            return await stack.enter_async_context(Runtime(service, given))

        yield start
