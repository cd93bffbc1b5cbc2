"""HEAD is answered as GET is, without the content (RFC 9110, section 9.3.2)."""

from typing import Any


async def without_content(app: Any, scope: Any, receive: Any, send: Any) -> None:
    """Let an ASGI app answer a HEAD request as if it were GET.

    After the head of the answer the app is told that nobody listens any more, so that one that
    would go on for ever, such as an event stream, ends.
    """
    ended = False

    async def head_only(message: Any) -> None:
        nonlocal ended
        if message["type"] != "http.response.start" or ended:
            return
        ended = True
        await send(message)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def received() -> Any:
        return {"type": "http.disconnect"} if ended else await receive()

    await app({**scope, "method": "GET"}, received, head_only)


__all__ = ["without_content"]
