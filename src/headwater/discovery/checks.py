"""What can be a running instance."""

import ipaddress
import math
import re
from urllib.parse import quote

from headwater.discovery.api import Instance
from headwater.errors import MalformedMessage

LEASE_S_MIN, LEASE_S_MAX = 0.05, 3600.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+~-]{0,199}")
_METHOD = re.compile(r"[A-Z]{1,32}|\*")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_PATH_MAX = 2000
_TEXT_MAX = 1000


def check(instance: Instance) -> None:
    """Refuse what cannot be a running instance.

    Raises:
        MalformedMessage: names every wrong field with what it must be.
    """
    lease_ok = math.isfinite(instance.lease_s) and LEASE_S_MIN <= instance.lease_s <= LEASE_S_MAX
    rules = [
        (_NAME.fullmatch(instance.service), "service", "letters, digits and . _ : @ + ~ - only"),
        (_NAME.fullmatch(instance.id), "id", "letters, digits and . _ : @ + ~ - only"),
        (not host_fault(instance.host), "host", host_fault(instance.host)),
        (1 <= instance.port <= 65535, "port", "a number from 1 to 65535"),
        (1 <= instance.weight <= 1_000_000, "weight", "a number from 1 to 1000000"),
        (lease_ok, "lease_s", f"seconds from {LEASE_S_MIN} to {LEASE_S_MAX:.0f}"),
        (instance.started >= 0, "started", "microseconds since 1970, or 0"),
        (len(instance.zone) <= _TEXT_MAX, "zone", f"at most {_TEXT_MAX} characters"),
        (len(instance.version) <= _TEXT_MAX, "version", f"at most {_TEXT_MAX} characters"),
    ]
    wrong = [
        f"{name} is {getattr(instance, name)!r}, expected {expected}"
        for fine, name, expected in rules
        if not fine
    ]
    wrong += [
        f"route {route.method[:40]} {route.path[:100]!r}: expected an upper-case method and a path "
        f"with / of at most {_PATH_MAX} characters, those beyond ASCII encoded as %XX"
        for route in instance.routes
        if not _METHOD.fullmatch(route.method)
        or not route.path.startswith("/")
        or len(quote(route.path, safe="%/{}")) > _PATH_MAX
    ]
    if wrong:
        raise MalformedMessage(name=f"instance {instance.id!r}", reason="; ".join(wrong))


def host_fault(host: str) -> str:
    """Return what a host should be that others can reach it by; empty when it is that."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _name_fault(host)
    if address.is_unspecified:
        return "the address that others reach it at, not where it listens: set `advertise`"
    if address.is_multicast or "%" in host:
        return "an address of one machine, which means the same on every other"
    return ""


def normal_host(host: str) -> str:
    """Return the one way to write a host, so that equal addresses are seen to be equal."""
    try:
        return ipaddress.ip_address(host).compressed
    except ValueError:
        return host.removesuffix(".").lower()


def _name_fault(host: str) -> str:
    labels = host.removesuffix(".").split(".")
    try:
        labels = [label if label.isascii() else label.encode("idna").decode() for label in labels]
    except UnicodeError:
        labels = [""]
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        return (
            "a host name, of parts with 1 to 63 letters, digits and hyphens between dots, or an "
            "address"
        )
    return ""


__all__ = ["LEASE_S_MAX", "LEASE_S_MIN", "check", "host_fault", "normal_host"]
