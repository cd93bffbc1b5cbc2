"""What can be a running instance."""

import math
import re

from headwater.discovery.api import Instance
from headwater.errors import MalformedMessage

LEASE_S_MIN, LEASE_S_MAX = 0.05, 3600.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+~-]{0,199}")
_METHOD = re.compile(r"[A-Z]+|\*")


def check(instance: Instance) -> None:
    """Refuse what cannot be a running instance.

    Raises:
        MalformedMessage: names every wrong field with what it must be.
    """
    lease_ok = math.isfinite(instance.lease_s) and LEASE_S_MIN <= instance.lease_s <= LEASE_S_MAX
    rules = [
        (_NAME.fullmatch(instance.service), "service", "letters, digits and . _ : @ + ~ - only"),
        (_NAME.fullmatch(instance.id), "id", "letters, digits and . _ : @ + ~ - only"),
        (instance.host.strip() and " " not in instance.host, "host", "a host name or address"),
        (1 <= instance.port <= 65535, "port", "a number from 1 to 65535"),
        (1 <= instance.weight <= 1_000_000, "weight", "a number from 1 to 1000000"),
        (lease_ok, "lease_s", f"seconds from {LEASE_S_MIN} to {LEASE_S_MAX:.0f}"),
        (instance.started >= 0, "started", "microseconds since 1970, or 0"),
    ]
    wrong = [
        f"{name} is {getattr(instance, name)!r}, expected {expected}"
        for fine, name, expected in rules
        if not fine
    ]
    wrong += [
        f"route {route.method} {route.path!r}: expected an upper-case method and a path with /"
        for route in instance.routes
        if not _METHOD.fullmatch(route.method) or not route.path.startswith("/")
    ]
    if wrong:
        raise MalformedMessage(name=f"instance {instance.id!r}", reason="; ".join(wrong))


__all__ = ["LEASE_S_MAX", "LEASE_S_MIN", "check"]
