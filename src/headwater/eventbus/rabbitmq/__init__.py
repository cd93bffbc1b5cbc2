"""An event bus on RabbitMQ streams, shared by any number of processes and machines."""

from headwater.eventbus.engine import EventBusEngine
from headwater.eventbus.rabbitmq.bus import RabbitMQEventBus
from headwater.eventbus.rabbitmq.settings import name_of

ENGINE = EventBusEngine(
    open=lambda url, partitions: RabbitMQEventBus.open(url, partitions=partitions),
    name_of=name_of,
    shared=True,
    ordered=False,
    drops_repeated=True,
    forgets=False,
    tells_stored=True,
)
"""Opens ``rabbitmq-stream://<user>:<password>@<host>:<port>/<vhost>?name=<bus>``."""

__all__ = ["ENGINE", "RabbitMQEventBus"]
