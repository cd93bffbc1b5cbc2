"""The one way to make an HTTP session: no cookies, bounded connects, authorities of one's own."""

import ssl
from typing import Any

import aiohttp

HttpSession = aiohttp.ClientSession  # noqa: TID251  # this is that one way

_KEEP_ALIVE_S = 4.0  # less than the five seconds after which common servers close idle connections


def http_session(
    base_url: str | None = None,
    *,
    connect_timeout_s: float | None = None,
    total_timeout_s: float | None = None,
    connections: int = 0,
    tls: ssl.SSLContext | None = None,
    **options: Any,
) -> HttpSession:
    """Return a session of the running event loop; whoever asked for it closes it.

    Args:
        base_url: what paths are of; none: requests name whole URLs.
        connect_timeout_s: bound of one connect; None: only the request's own.
        total_timeout_s: bound of a whole request; None: it has one of its own.
        connections: to one address, at most; 0: any number.
        tls: for https, such as one that trusts a private authority; None: the system's.
        options: further ones of `aiohttp.ClientSession`.
    """
    return HttpSession(
        base_url,
        connector=aiohttp.TCPConnector(
            limit=0,
            limit_per_host=connections,
            keepalive_timeout=_KEEP_ALIVE_S,
            ssl=tls or True,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=total_timeout_s, sock_connect=connect_timeout_s),
        **options,
    )


__all__ = ["HttpSession", "http_session"]
