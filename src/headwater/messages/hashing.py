"""One stable hash for partitions, segments and routing, the same in every process and release."""

import zlib


def stable_hash(key: str) -> int:
    """Return the CRC-32 (ISO 3309) of the key's UTF-8 bytes, 0 to 2**32 - 1."""
    return zlib.crc32(key.encode())
