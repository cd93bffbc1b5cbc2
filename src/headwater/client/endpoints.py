"""One declared method, compiled: from arguments to a request, from a reply to a value."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints
from urllib.parse import quote, urlencode

import msgspec

from headwater.client.answers import Answers, Decode, item_decoder
from headwater.client.marks import Method
from headwater.client.messages import Request
from headwater.client.parameters import (
    Parameter,
    header_text,
    path_text,
    read_parameters,
    text_of,
)
from headwater.errors import DeclarationError, InvalidInput

_NAME = re.compile(r"{(\w+)}")
_LITERAL = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*")
_encode = msgspec.json.Encoder().encode
_KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
_NO_BODY = ("GET", "HEAD")


class Endpoint:
    """Everything about one method of a client, computed once.

    Attributes:
        name: of the method.
        function: as declared.
        template: its whole path, with parameters in braces.
        method: its options.
        signature: of the function, with ``self``.
        answers: reads its replies; None for a stream.
        items: decodes the items of a stream; None otherwise.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        method: Method,
        *,
        template: str,
        parameters: tuple[Parameter, ...],
        answers: Answers | None,
        items: Decode | None,
    ) -> None:
        """Keep what was compiled."""
        self.name = function.__name__
        self.function = function
        self.template = template
        self.method = method
        self.signature = inspect.signature(function)
        self.answers = answers
        self.items = items
        self._names = frozenset(p.name for p in parameters)
        self._positional = tuple(
            p.name for p in parameters if self.signature.parameters[p.name].kind != _KEYWORD_ONLY
        )
        self._defaults = {
            p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty
        }
        self._in_path = _NAME.findall(template)
        self._query = tuple(p for p in parameters if p.kind == "query")
        self._headers = tuple(p for p in parameters if p.kind == "header")
        self._body = next((p for p in parameters if p.kind == "body"), None)
        accept = "text/event-stream" if answers is None else answers.accept
        self._fixed = {} if accept == "*/*" else {"accept": accept}

    def values(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return all arguments by name.

        Raises:
            TypeError: they do not fit the method, as Python itself would say.
        """
        positional = dict(zip(self._positional, args, strict=False))
        values = {**self._defaults, **positional, **kwargs}
        fits = len(args) <= len(self._positional) and values.keys() == self._names
        if not fits or not positional.keys().isdisjoint(kwargs):
            self.signature.bind(None, *args, **kwargs)
        return values

    def request(self, values: Mapping[str, Any], *, service: str, url: str) -> Request:
        """Return the request that carries the arguments.

        Raises:
            InvalidInput: a value cannot stand where it belongs.
        """
        path = self.template
        for name in self._in_path:
            path = path.replace(f"{{{name}}}", quote(path_text(name, values[name]), safe=""), 1)
        if self._query and (pairs := self._pairs(values)):
            path = f"{path}?{urlencode(pairs, quote_via=quote)}"
        headers = dict(self._fixed)
        body = b""
        if self._body is not None and (content := values[self._body.name]) is not None:
            raw = self._body.raw
            headers["content-type"] = "application/octet-stream" if raw else "application/json"
            body = content if raw else _encode(content)
        for parameter in self._headers:
            value = values[parameter.name]
            if value is not None and value != "":
                headers[parameter.wire] = header_text(parameter.wire, value)
        method = self.method
        return Request(
            method=method.verb,
            path=path,
            service=service,
            url=url,
            headers=headers,
            body=body,
            timeout_s=method.timeout_s,
            routing_key=_routing_text(values[method.routing_key]) if method.routing_key else "",
            role=method.role,
            idempotent=method.idempotent,
            retries=method.retries,
            hedge_s=method.hedge_s,
        )

    def _pairs(self, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        for parameter in self._query:
            value = values[parameter.name]
            if value is None:
                continue
            many = isinstance(value, list | tuple | set | frozenset)
            pairs.extend(
                (parameter.wire, text_of(parameter.name, item))
                for item in (value if many else (value,))
            )
        return pairs


def _routing_text(value: Any) -> str:
    """Return a text by which equal values are known, of any kind: it is not sent."""
    try:
        return text_of("", value)
    except InvalidInput:
        return repr(value)


def compile_endpoint(function: Callable[..., Any], method: Method, *, prefix: str) -> Endpoint:
    """Compile a declared method.

    Raises:
        DeclarationError: its path is not an encoded path from ``/`` with names in braces, each
            once and each a parameter; a parameter cannot be sent (see `read_parameters`); GET or
            HEAD has a body; ``routing_key`` is no parameter; an annotation is missing or cannot
            be resolved; the return type cannot be decoded; it is not ``async def`` (a stream:
            not a plain ``def``); or an option is out of range.
    """
    subject = function.__qualname__
    template = prefix if prefix and method.path in ("", "/") else prefix + method.path
    names = _NAME.findall(template)
    literals = _NAME.split(template)[::2]
    reason = ""
    if not template.startswith("/") or not all(map(_LITERAL.fullmatch, literals)):
        reason = f"path {method.path!r} must start with / and be percent-encoded, without a query"
    elif len(set(names)) < len(names):
        reason = f"path {template!r} names a parameter twice"
    elif method.timeout_s <= 0 or method.retries < 0 or method.hedge_s < 0:
        reason = "timeout_s must be above 0, retries and hedge_s not below"
    elif method.hedge_s and method.verb not in _NO_BODY:
        reason = f"hedge_s would carry a {method.verb} out twice: only GET and HEAD are hedged"
    if reason:
        raise DeclarationError(subject=subject, reason=reason)
    hints = _hints(subject, function)
    parameters = read_parameters(subject, inspect.signature(function), hints, names)
    if method.verb in _NO_BODY and any(p.kind == "body" for p in parameters):
        reason = f"{method.verb} has no body: pass the fields one by one, or use @post"
        raise DeclarationError(subject=subject, reason=reason)
    if method.routing_key and method.routing_key not in {p.name for p in parameters}:
        reason = f"routing_key={method.routing_key!r} is not among its parameters"
        raise DeclarationError(subject=subject, reason=reason)
    items = item_decoder(subject, hints["return"])
    if inspect.iscoroutinefunction(function) is (items is not None):
        reason = "a stream is declared with def, not async def"
        if items is None:
            reason = "must be async def (only a stream, -> AsyncIterator[X], is a plain def)"
        raise DeclarationError(subject=subject, reason=reason)
    answers = None if items else Answers(subject, method.verb, hints["return"])
    return Endpoint(
        function, method, template=template, parameters=parameters, answers=answers, items=items
    )


def _hints(subject: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        reason = f"an annotation cannot be resolved: {error}"
        raise DeclarationError(subject=subject, reason=reason) from error
    if "return" not in hints:
        raise DeclarationError(subject=subject, reason="needs a return annotation")
    return hints
