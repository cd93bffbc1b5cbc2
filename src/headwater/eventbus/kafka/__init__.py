"""An event bus on Apache Kafka, shared by any number of processes and machines."""

from headwater.eventbus.engine import EventBusEngine
from headwater.eventbus.kafka.bus import KafkaEventBus
from headwater.eventbus.kafka.settings import name_of

ENGINE = EventBusEngine(
    open=lambda url, partitions: KafkaEventBus.open(url, partitions=partitions),
    name_of=name_of,
    shared=True,
    ordered=False,
    drops_repeated=False,
    tells_stored=True,
)
"""Opens ``kafka://<user>:<password>@<host>:<port>,<host>:<port>/<prefix of topics>``."""

__all__ = ["ENGINE", "KafkaEventBus"]
