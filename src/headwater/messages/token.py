"""The consistency token: how far a reader must have come to see what a command did."""

import base64
import binascii
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from headwater.errors import MalformedMessage


class SourceState(msgspec.Struct, frozen=True):
    """How far one event store had come: its epoch, and a position for each shard."""

    epoch: str
    shards: dict[int, int]


class ConsistencyToken(msgspec.Struct, frozen=True):
    """Positions by source (the name of the service that owns the store). Opaque to callers."""

    sources: dict[str, SourceState]

    @classmethod
    def at(cls, source: str, epoch: str, position: int, *, shard: int = 0) -> "ConsistencyToken":
        """Return the token of one position, in an unsharded store or in a shard."""
        return cls({source: SourceState(epoch, {shard: position})})

    @staticmethod
    def text_at(source: str, epoch: str, position: int, *, shard: int = 0) -> str:
        """Return ``at(…).encode()``, which every answer to a command has, at less cost."""
        before, after = _around(source, epoch, shard)
        return _text(b"%b%d%b" % (before, position, after))

    def encode(self) -> str:
        """Return the token as header-safe text."""
        return _text(_raw(self))

    @classmethod
    def decode(cls, text: str) -> "ConsistencyToken":
        """Return the token from its text.

        Raises:
            MalformedMessage: the text is not a token.
        """
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            version, sources = msgspec.json.decode(
                raw, type=tuple[int, dict[str, tuple[str, dict[int, int]]]]
            )
        except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise MalformedMessage(name="consistency token", reason=str(error)) from error
        if version != 1:
            raise MalformedMessage(name="consistency token", reason=f"unknown version {version}")
        return cls({name: SourceState(epoch, shards) for name, (epoch, shards) in sources.items()})

    def merge(self, other: "ConsistencyToken") -> "ConsistencyToken":
        """Return a token that is as far as both; of two epochs of a source, ``other``'s wins."""
        merged = dict(self.sources)
        for name, state in other.sources.items():
            mine = merged.get(name)
            if mine is None or mine.epoch != state.epoch:
                merged[name] = state
            else:
                merged[name] = SourceState(state.epoch, _furthest(mine.shards, state.shards))
        return ConsistencyToken(merged)


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _text(raw: bytes) -> str:
    encoded = binascii.b2a_base64(raw, newline=False)
    return encoded.translate(_URL_SAFE).rstrip(b"=").decode()


def _raw(token: ConsistencyToken) -> bytes:
    return msgspec.json.encode(
        [1, {n: [s.epoch, s.shards] for n, s in sorted(token.sources.items())}]
    )


@lru_cache(maxsize=256)
def _around(source: str, epoch: str, shard: int) -> tuple[bytes, bytes]:
    """Return what stands before the position in a token, and what after it."""
    before, _, after = _raw(ConsistencyToken.at(source, epoch, 0, shard=shard)).rpartition(b"0")
    return before, after


def _furthest(left: Mapping[int, int], right: Mapping[int, int]) -> dict[int, int]:
    return {s: max(left.get(s, 0), right.get(s, 0)) for s in {*left, *right}}
