"""The address that others reach an instance at, found out when it listens on all of its machine."""

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from headwater.errors import ConfigurationError


def advertised(host: str, *, advertise: str = "", registries: Iterable[str] = ()) -> str:
    """Return the host to register: one that others can reach.

    Who listens on every address of its machine (``0.0.0.0``, ``::``) is reached at that from which
    it reaches a registry itself. This may ask the name service, so it can block.

    Args:
        host: where it listens.
        advertise: what is to be told instead, if anything.
        registries: base URLs.

    Raises:
        ConfigurationError: it cannot be found out, or ``advertise`` itself says every address.
    """
    if advertise and is_every(advertise):
        raise ConfigurationError(
            subject="advertise",
            reason=f"{advertise!r} means every address of a machine, on each another one: name the "
            "one that others reach this instance at",
        )
    if advertise or not is_every(host):
        return advertise or host
    urls = list(registries)
    if not urls:
        return "::1" if ":" in host else "127.0.0.1"  # nobody elsewhere hears of it
    for url in urls:
        found = _own_address(url)
        if found:
            return found
    raise ConfigurationError(
        subject="advertise",
        reason=f"the instance listens on {host!r}, every address, and none leads to the registry "
        f"at {', '.join(urls)}: set `advertise` to the name or address that others reach it at",
    )


def is_every(host: str) -> bool:
    """Whether a host stands for every address of a machine."""
    try:
        return not host.strip() or host in {"*", "0"} or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _own_address(url: str) -> str:
    """Return the address that packets to a URL would come from; nothing is sent."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return ""
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(address)
                own = str(probe.getsockname()[0]).partition("%")[0]
        except OSError:
            continue
        if not is_every(own):
            return own
    return ""


__all__ = ["advertised", "is_every"]
