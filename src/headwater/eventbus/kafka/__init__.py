"""An event bus on Apache Kafka, shared by any number of processes and machines."""

from headwater.errors import ConfigurationError

try:
    import confluent_kafka  # noqa: F401  # what all files here stand on
except ImportError as _error:
    raise ConfigurationError(
        subject="event bus 'kafka'",
        reason="its client is not installed: pip install 'headwater[kafka]'",
    ) from _error

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
