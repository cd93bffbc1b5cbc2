"""What an applier asks of a source, for events that come from no log that could be read again."""

from headwater.messages import Codec
from headwater.processing.sources.source import RawEvent
from headwater.processing.sources.tokens import service_of


class Strangers:
    """Events of any services and programs, as a queue has them."""

    name = ""  # whose events they are: of several

    def __init__(self, codec: Codec | None) -> None:
        """Open contents with the codec of the service, if it has one."""
        self.codec = codec

    def name_of(self, event: RawEvent) -> str:
        """See `Source.name_of`; programs whose events have no epoch name as they like."""
        source: str = getattr(event, "source", "")
        return service_of(source) if getattr(event, "epoch", "") else source


__all__ = ["Strangers"]
