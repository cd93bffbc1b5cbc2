"""Who handles a message, as far as the registry knows."""

import pytest

from headwater.discovery import Instance, LocalDiscovery, RouteInfo, Standing
from headwater.dispatch.remote import MessageDirectory
from headwater.errors import NotKnownYet, UnknownMessage

PAY = Instance(
    service="payments",
    id="p",
    host="127.0.0.1",
    port=1,
    routes=(RouteInfo("POST", "/payments", "command", "Pay"),),
)


class Registry(LocalDiscovery):
    """A registry whose standing the test dictates."""

    now = Standing()

    def standing(self) -> Standing:
        return self.now


@pytest.mark.parametrize("standing", [Standing(settling_s=3.0), Standing(unheard_s=0.1)])
async def test_unknown_while_settling(standing):
    """While not everyone was heard, or nobody is, what is unknown is unavailable for a while."""
    registry = Registry()
    directory = MessageDirectory(registry)
    with pytest.raises(UnknownMessage):
        directory.service_of("Pay")
    registry.now = standing
    with pytest.raises(NotKnownYet, match="who handles 'Pay'") as caught:
        directory.service_of("Pay")
    assert caught.value.status == 503
    assert caught.value.retry_after_s >= 1.0
    await registry.register(PAY)
    assert directory.service_of("Pay") == "payments"
    await registry.deregister("p")
    assert directory.service_of("Pay") == "payments"
