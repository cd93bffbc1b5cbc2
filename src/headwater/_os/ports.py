"""Ports of this machine: held so that nobody else gets them, or listened on."""

import asyncio
import errno
import socket
from contextlib import ExitStack

from headwater.errors import AddressInUse, ConfigurationError


def held_port(host: str, port: int, held: ExitStack) -> int:
    """Return the port if it is free, or a free one for 0; hold it until ``held`` is closed.

    Raises:
        AddressInUse: another process listens on it.
        ConfigurationError: the address cannot be used.
    """
    sock = held.enter_context(
        socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    )
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OverflowError as error:
        raise ConfigurationError(
            subject=f"{host}:{port}", reason="a port is a number from 0 to 65535"
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(host=host, port=port) from error
        raise ConfigurationError(
            subject=f"{host}:{port}", reason=f"cannot listen there: {error.strerror or error}"
        ) from error
    return int(sock.getsockname()[1])


async def listening(host: str, port: int, *, backlog: int) -> socket.socket:
    """Return a socket that listens; a port of 0 is chosen, an empty host is every address.

    Raises:
        AddressInUse: another process listens on the port.
        ConfigurationError: the address is not one of this machine, or not allowed.
    """
    if not 0 <= port <= 65535:
        raise ConfigurationError(
            subject=f"{host}:{port}", reason="a port is a number from 0 to 65535: correct it"
        )
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            host or "0.0.0.0",  # noqa: S104 - an empty host means all addresses, as elsewhere
            port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(
            subject=f"{host}:{port}", reason=f"unknown host ({error}): use an address of this host"
        ) from error
    family, kind, protocol, _, address = min(found, key=lambda item: item[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(host=host, port=port) from error
        raise ConfigurationError(
            subject=f"{host}:{port}",
            reason=f"cannot listen ({error.strerror}): choose another address or port",
        ) from error
    return sock


__all__ = ["held_port", "listening"]
