"""What a call is and what comes back."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from headwater.errors import HeadwaterError, Outcome

READS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that store nothing. Source: RFC 9110, section 9.2.1."""


class Request(msgspec.Struct, frozen=True):
    """One HTTP call to a service, or to a base URL.

    Attributes:
        method: upper case.
        path: encoded, from ``/``, with the query string.
        service: resolved through discovery.
        url: a base URL instead of a service, such as ``https://api.example.com/v1``.
        headers: sent besides those of the context (see `headwater.messages.headers`).
        body: sent as it is; name its type in ``content-type``.
        timeout_s: the time for everything, retries included; an earlier deadline of the current
            context comes first.
        routing_key: calls of one key go to one instance while it lives.
        role: the side of the service that answers (``command``, ``query``), or any.
        idempotent: it may be carried out twice, whatever the method says.
        retries: further attempts after the first, made only where safe (see `HttpCaller.call`).
        hedge_s: ask a second instance when the first has not answered after so many seconds, and
            take the first answer (GET and HEAD only); 0 never does.
    """

    method: str
    path: str
    service: str = ""
    url: str = ""
    headers: Mapping[str, str] = {}
    body: bytes = b""
    timeout_s: float = 10.0
    routing_key: str = ""
    role: str = ""
    idempotent: bool = False
    retries: int = 0
    hedge_s: float = 0.0

    @property
    def action(self) -> str:
        """The call in words, for messages."""
        return f"{self.method} {self.service or self.url}{self.path.partition('?')[0]}"


Credentials = Callable[[Request], Mapping[str, str] | Awaitable[Mapping[str, str]]]
"""Returns headers that prove who calls, such as ``authorization``. It may be async."""


class Reply(msgspec.Struct, frozen=True):
    """An answer of any status; the names in ``headers`` are case-insensitive.

    ``outcome`` is what is known of the work if the answer is an error, whatever that says itself: a
    read stores nothing; and what failed now may have been stored by an earlier attempt.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    instance: str
    outcome: Outcome | None = None


class Failure(Exception):
    """An attempt without a usable answer.

    Attributes:
        error: what to tell when there is no further attempt.
        sent: bytes of the request may have reached the other side.
        final: another attempt would end the same way.
    """

    def __init__(self, error: HeadwaterError, *, sent: bool, final: bool = False) -> None:
        """Wrap the error."""
        super().__init__(error.message)
        self.error = error
        self.sent = sent
        self.final = final
