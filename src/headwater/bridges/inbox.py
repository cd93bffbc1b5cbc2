"""The inbox: which messages were handled, stored in the transaction of what they did."""

from hashlib import blake2b
from typing import Annotated

from headwater.messages import now_us
from headwater.views import Index, Key, Range, View, ViewStore

_PAGE = 1000


class HandledMessage(View):
    """One message that was handled.

    Attributes:
        id: a digest of the queue, and of source and id of the event.
        until: how long it is known, seconds since 1970 UTC.
    """

    id: Annotated[str, Key]
    until: Annotated[float, Index]


def message_key(queue: str, source: str, id_: str) -> str:
    """Return the key of a message; `source` and `id` identify a CloudEvent.

    The digest is BLAKE2b, 160 bits: two of them are the same by chance never.
    """
    parts = (part.encode(errors="surrogatepass") for part in (queue, source, id_))
    text = b"".join(b"%d:%b" % (len(part), part) for part in parts)
    return blake2b(text, digest_size=20).hexdigest()


def now_s() -> float:
    """Return the time, seconds since 1970 UTC."""
    return now_us() / 1_000_000


async def forget(views: ViewStore) -> int:
    """Forget the messages that were known for long enough; return how many at least.

    Raises:
        StoreUnavailable: the view store is away.
    """
    forgotten = 0
    while True:
        async with views.transaction() as transaction:
            where = {"until": Range(most=now_s())}
            page = await transaction.find(HandledMessage, where=where, limit=_PAGE)
            await transaction.delete(HandledMessage, [one.id for one in page.items])
        forgotten += len(page.items)
        if not page.next:
            return forgotten


__all__ = ["HandledMessage", "forget", "message_key", "now_s"]
