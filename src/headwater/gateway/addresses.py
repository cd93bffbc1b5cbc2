"""Addresses: the port that the gateway listens on, and the IP addresses of instances."""

import asyncio
import contextlib
import errno
import ipaddress
import socket
import sys
import time
from collections.abc import Iterable, Mapping

import structlog

from headwater.errors import AddressInUse, ConfigurationError

_log = structlog.get_logger("headwater.gateway")
RESOLVE_AGAIN_S = 30.0


def reserve(host: str, port: int) -> socket.socket:
    """Bind, without listening, and return the socket that keeps the port for our Envoy.

    On Linux, Envoy shares the port with it (``SO_REUSEPORT``), so that nobody else can take the
    port while Envoy is being started again; elsewhere close it before Envoy starts.

    Raises:
        AddressInUse: another process listens there.
        ConfigurationError: the host is unknown or not of this machine, or the port is privileged.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            # Without SO_REUSEPORT this fails if anybody listens, even one that would share.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            address = probe.getsockname()
        reserved = socket.socket(family, kind, protocol)
        try:
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sys.platform == "linux":
                reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reserved.bind(address)
        except BaseException:
            reserved.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(host=host, port=port) from error
        raise ConfigurationError(
            subject="gateway",
            reason=f"cannot listen on {host}:{port} ({error.strerror or error}): "
            "correct gateway.host and gateway.port",
        ) from error
    return reserved


class Resolver:
    """The IP addresses of host names, kept through failures of the name service."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._known: dict[str, tuple[str, float]] = {}

    async def resolve(self, hosts: Iterable[str]) -> Mapping[str, str]:
        """Return an address for each host that has one; an unknown host is logged and left out.

        Names are asked for again after ``RESOLVE_AGAIN_S``; if that fails the last address stays.
        """
        wanted, stale = set(hosts), time.monotonic() - RESOLVE_AGAIN_S
        self._known = {host: known for host, known in self._known.items() if host in wanted}
        due = [h for h in wanted if h not in self._known or self._known[h][1] < stale]
        await asyncio.gather(*(self._one(host) for host in due))
        return {host: known[0] for host, known in self._known.items()}

    async def _one(self, host: str) -> None:
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(host)
            self._known[host] = (host, float("inf"))
            return
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            _log.warning("host name not resolved", host=host, reason=str(error))
            return
        addresses = sorted(
            {str(entry[4][0]).partition("%")[0] for entry in found}, key=lambda a: (":" in a, a)
        )
        self._known[host] = (addresses[0], time.monotonic())
