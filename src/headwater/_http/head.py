"""HEAD is answered as GET is, without the content (RFC 9110, section 9.3.2)."""

from typing import Any


async def without_content(app: Any, scope: Any, receive: Any, send: Any) -> None:
    """Let an ASGI app answer a HEAD request as if it were GET.

    The answer is complete with its head. By that an app that would go on for ever, such as an event
    stream, learns that nobody listens any more: the server gives it a disconnect.
    """
    ended = False

    async def head_only(message: Any) -> None:
        nonlocal ended
        if message["type"] != "http.response.start" or ended:
            return
        ended = True
        await send(message)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    await app({**scope, "method": "GET"}, receive, head_only)


__all__ = ["without_content"]
