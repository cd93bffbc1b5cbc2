"""Checks that every event bus makes, with the same messages."""

from collections.abc import Mapping

from headwater.errors import ConfigurationError, EventsForgotten, InvalidInput


def check_count(partitions: int, *, bus: str) -> None:
    """Refuse a number of partitions below 1.

    Raises:
        ConfigurationError: it is.
    """
    if partitions < 1:
        reason = f"{partitions} partitions were asked for, at least 1 is needed"
        raise ConfigurationError(subject=f"event bus {bus}", reason=reason)


def check_subscription(after: Mapping[int, int], page_size: int, *, partitions: int) -> None:
    """Refuse partitions that the bus does not have, and pages without events.

    Raises:
        InvalidInput: there are such.
    """
    unknown = sorted(set(after) - set(range(partitions)))
    if unknown or not after:
        raise InvalidInput(
            reason=f"partitions {unknown} were asked for, the bus has 0 to {partitions - 1}: "
            "name some of those"
        )
    if page_size < 1:
        raise InvalidInput(reason=f"page_size is {page_size}: choose at least 1")


def check_kept(partition: int, after: int, begin: int, *, bus: str) -> None:
    """Refuse to go on behind a gap.

    Args:
        partition: where somebody reads.
        after: the last offset that it has read.
        begin: the first offset that is kept.
        bus: what the bus is called.

    Raises:
        EventsForgotten: events between them were forgotten.
    """
    if after + 1 < begin:
        raise EventsForgotten(store=bus, partition=partition, after=after, begin=begin)
