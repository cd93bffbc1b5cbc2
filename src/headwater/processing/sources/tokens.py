"""The tracking token: how far a segment has come in its source, stored with its views."""

from functools import lru_cache

import msgspec

_encode = msgspec.json.Encoder().encode


class Ahead(msgspec.Struct, frozen=True):
    """What is known of some shares that are further than a token, after a split or a merge.

    All events of these shares (``indices`` of ``count``) up to ``token`` were handled.
    """

    count: int
    indices: tuple[int, ...]
    token: "Token"


class Token(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far one segment has come.

    Attributes:
        positions: for each source and partition (of a store: shard) the epoch and the last
            position whose effect is in the views; a bus may deliver a position again, it is
            skipped.
        offsets: for each partition of a bus the last offset read.
        confirmed: for each source on a bus the epoch, and the position up to which all of its
            events are known to be on the bus, wherever that was read.
        strangers: for each partition of a bus what identifies the last events of other programs
            there, the latest last; one that is sent again is skipped (see `strangers`).
        since: events recorded before this time (µs UTC) are skipped; set by a replay of a bus.
        ahead: shares that were further when the segments were split or merged; see `resizing`.
        last: for each shard of a store position and time of the last event that was handled, by
            which it is found out when another one stands there.
        successor: when not 0, nobody works on this generation any more: that one takes over.
        replay: what comes up to there was recorded before the processor was made, or sent back:
            it is handled once more.
        parked: when events were last parked (µs UTC), 0 when there are no letters for sure. Who
            sees a token that has passed an event sees by this whether to look for a letter of it.
        published: of a relay: for each partition of the bus the last position that it has put
            there, if the bus may lose what it has confirmed.
    """

    positions: dict[str, dict[int, tuple[str, int]]] = {}
    offsets: dict[int, int] = {}
    confirmed: dict[str, tuple[str, int]] = {}
    since: int = 0
    ahead: tuple[Ahead, ...] = ()
    last: dict[int, tuple[int, int]] = {}
    successor: int = 0
    parked: int = 0
    replay: "Token | None" = None
    published: dict[int, int] = {}
    strangers: dict[int, tuple[str, ...]] = {}

    @property
    def text(self) -> str:
        """The token as stored."""
        return _encode(self).decode()

    def position(self, source: str) -> int:
        """Return the largest position of a source, 0 when nothing of it was seen."""
        return max((p for _, p in self.positions.get(source, {}).values()), default=0)

    def shard_position(self, source: str, shard: int) -> int:
        """Return the position of one shard of a store."""
        places = self.positions.get(source)
        return places[shard][1] if places and shard in places else 0

    def position_in(self, source: str, epoch: str, shard: int) -> int:
        """Return the position of one shard of a store, 0 when it is of another epoch."""
        places = self.positions.get(source)
        place = places.get(shard) if places else None
        return place[1] if place and place[0] == epoch else 0


_decode = msgspec.json.Decoder(Token).decode


@lru_cache(maxsize=1024)
def token_of(text: str) -> Token:
    """Return the token from its stored text."""
    return _decode(text)


def store_token(
    source: str, epoch: str, *positions: int, last: dict[int, tuple[int, int]] | None = None
) -> Token:
    """Return the token of a position in an event store, or of one in each of its shards."""
    places = {shard: (epoch, position) for shard, position in enumerate(positions)}
    return Token({source: places}, last=last or {})


def log_name(service: str, shard: int) -> str:
    """Return what the log of a shard is called on the bus: ``accounts``, ``accounts/1``, ...

    Positions are counted per log, so each needs a source of its own there. No service has a ``/``
    in its name.
    """
    return f"{service}/{shard}" if shard else service


def service_of(source: str) -> str:
    """Return the service that owns the log of a name."""
    return source.partition("/")[0]
