"""What a method returns, from what came back."""

import inspect
import types
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any, Union, get_args, get_origin

import msgspec

from headwater.client.marks import Response
from headwater.client.messages import Reply
from headwater.errors import (
    DeclarationError,
    HeadwaterError,
    NotFound,
    RemoteError,
    RouteNotFound,
    UnknownMessage,
    from_problem,
)

_STREAMS = (AsyncIterator, AsyncGenerator, AsyncIterable)
Decode = Callable[[bytes], Any]


class Answers:
    """Turns the replies of one endpoint into its declared return type."""

    def __init__(self, subject: str, verb: str, hint: Any) -> None:
        """Compile a return annotation that is no stream.

        Raises:
            DeclarationError: msgspec cannot decode the type, or a HEAD expects a body.
        """
        self._subject = subject
        self._wrapped = get_origin(hint) is Response or hint is Response
        if self._wrapped:
            hint = get_args(hint)[0] if get_args(hint) else Any
        members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        self._optional = type(None) in members and len(members) > 1
        plain = tuple(m for m in members if m is not type(None))
        self.nothing = not plain or hint is None
        if verb == "HEAD" and not self.nothing:
            reason = "an answer to HEAD has no body: return None or Response[None]"
            raise DeclarationError(subject=subject, reason=reason)
        self._decode: Decode | None = None if self.nothing else _decoder(subject, hint, plain)
        text = plain in ((str,), (bytes,)) or self.nothing
        self.accept = "*/*" if text else "application/json"

    def read(self, reply: Reply, source: str) -> Any:
        """Return the declared value.

        Raises:
            HeadwaterError: the error that the reply describes, `RemoteError` when it cannot be
                understood.
        """
        status = reply.status
        if not 200 <= status < 300:
            error = error_of(reply, source)
            if status != 404 or not self._optional or not _is_absence(error):
                raise error
            value = None
        elif self._decode is None or (self._optional and not reply.body):
            value = None
        else:
            try:
                value = decode(self._decode, reply.body, status, source)
            except RemoteError as error:
                error.outcome = reply.outcome or error.outcome
                raise
        return Response(status, reply.headers, value) if self._wrapped else value


def item_decoder(subject: str, hint: Any) -> Decode | None:
    """Return what decodes the items of a stream, None when the annotation is no stream.

    Raises:
        DeclarationError: msgspec cannot decode the items.
    """
    if get_origin(hint) not in _STREAMS:
        return None
    item = get_args(hint)[0]
    return _decoder(subject, item, (item,))


def decode(decoder: Decode, body: bytes, status: int, source: str) -> Any:
    """Return the decoded body.

    Raises:
        RemoteError: it is not JSON of the expected shape.
    """
    try:
        return decoder(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        start = body[:200].decode(errors="replace")
        detail = f"something unexpected, {error}: {start!r}"
        raise RemoteError(source=source, remote_status=status, detail=detail) from error


def error_of(reply: Reply, source: str) -> HeadwaterError:
    """Return the error that a reply stands for: typed when it is one of ours.

    Args:
        reply: of a status that is no success.
        source: who was asked, for the message.
    """
    if 300 <= reply.status < 400:
        place = reply.headers.get("Location", "nowhere")
        problem: Any = f"a redirect to {place}, which is not followed"
    else:
        try:
            problem = msgspec.json.decode(reply.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            problem = reply.body[:500].decode(errors="replace")
    error = from_problem(problem, status=reply.status, source=source)
    error.outcome = reply.outcome or error.outcome
    return error


def _is_absence(error: HeadwaterError) -> bool:
    """Whether a 404 means that the thing is absent, rather than that the route is wrong."""
    if isinstance(error, RouteNotFound | UnknownMessage):
        return False
    return isinstance(error, NotFound | RemoteError)


def _decoder(subject: str, hint: Any, plain: tuple[Any, ...]) -> Decode:
    if plain == (bytes,):
        return bytes
    if plain == (str,):
        return bytes.decode
    try:
        _refuse_custom(msgspec.inspect.type_info(hint), set())
        return msgspec.json.Decoder(hint).decode
    except TypeError as error:
        raise DeclarationError(
            subject=subject,
            reason=f"returns {inspect.formatannotation(hint)}, which msgspec cannot decode "
            f"({error}): use a Struct, a dataclass or a plain JSON type",
        ) from error


def _refuse_custom(node: Any, seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, msgspec.inspect.CustomType):
        raise TypeError(f"{node.cls!r} is no JSON type")
    if isinstance(node, tuple | list):
        for part in node:
            _refuse_custom(part, seen)
    elif isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field):
        for name in node.__struct_fields__:
            if name not in ("cls", "default", "default_factory"):
                _refuse_custom(getattr(node, name), seen)
