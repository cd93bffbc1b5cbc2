"""How commands and queries look in HTTP: written once, for the edge and for the remote buses."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, get_type_hints
from urllib.parse import quote, urlencode

import msgspec

from headwater.errors import MalformedMessage
from headwater.messages import Command, MessageType, Query, message_form, message_type
from headwater.messages.whole_numbers import DIGITS_ASKED

_encode = msgspec.json.Encoder().encode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class HttpRequest(msgspec.Struct, frozen=True):
    """A message as an HTTP request; ``path`` is encoded and holds the query string."""

    method: str
    path: str
    body: bytes


class HttpForm:
    """The HTTP form of one message type: path parameters, then body or query string."""

    def __init__(self, cls: type[Command] | type[Query[Any]]) -> None:
        """Compile the form."""
        self.kind: MessageType = message_type(cls)
        self.route = self.kind.route
        self._in_path = self.route.parameters
        self._elsewhere = tuple(f for f in self.kind.fields if f not in self._in_path)
        self._hints: Mapping[str, Any] = get_type_hints(cls, include_extras=True)
        self._fields = {field.name: field for field in msgspec.structs.fields(cls)}
        self._defaults = {
            name: field.default
            if field.default_factory is msgspec.NODEFAULT
            else field.default_factory()
            for name, field in self._fields.items()
        }
        self._decode = msgspec.json.Decoder(cls).decode
        self._decoders: dict[str, Callable[[bytes], Any]] = {
            name: msgspec.json.Decoder(self._hints[name]).decode for name in self._fields
        }
        self._cls = cls
        self._form = message_form(cls)

    def request(self, message: Any) -> HttpRequest:
        """Return the request that carries a message.

        Raises:
            MalformedMessage: a query holds None or nothing where its default says otherwise, or
                a command a number that has no form in JSON.
        """
        path = self.route.path
        for name in self._in_path:
            path = path.replace(f"{{{name}}}", quote(str(getattr(message, name)), safe=""))
        if self.kind.kind == "command":
            self._form.check_finite(message)
            if not self._in_path:
                return HttpRequest(self.route.method, path, _encode(message))
            rest = {name: getattr(message, name) for name in self._elsewhere}
            return HttpRequest(self.route.method, path, _encode(rest))
        pairs: list[tuple[str, str]] = []
        for name in self._elsewhere:
            value = getattr(message, name)
            if value == self._defaults[name]:
                continue
            values = value if isinstance(value, list | tuple | set | frozenset) else [value]
            if not values or (value is None and not self._nullable(name)):
                reason = f"{name}={value!r} cannot be told from its default in a query string"
                raise self._malformed(f"{reason}: make it the default")
            pairs.extend((name, _text(item)) for item in values)
        return HttpRequest("GET", f"{path}?{urlencode(pairs)}" if pairs else path, b"")

    def command(self, path: Mapping[str, Any], body: bytes) -> Any:
        """Return the command of a request.

        Raises:
            MalformedMessage: the body is not a JSON object, or a field is missing, unknown, of
                the wrong type, or given twice (in the path and in the body).
        """
        try:
            if not path:
                content = body or b"{}"
                message = self._decode(content)
                if len(content) > 2:
                    self._refuse_unknown(_decode_object(content))
                return message
            fields: dict[str, Any] = dict(_decode_object(body)) if body.strip() else {}
            self._refuse_unknown(fields, path)
            values = {name: self._from_json(name, raw) for name, raw in fields.items()}
            for name, text in path.items():
                values[name] = self._from_text(name, text)
            return self._build(values)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._malformed(str(error)) from error

    def query(self, path: Mapping[str, Any], parameters: Mapping[str, Sequence[str]]) -> Any:
        """Return the query of a request; parameters have all values of each name.

        Raises:
            MalformedMessage: a parameter is missing, unknown, repeated or of the wrong type, or a
                whole number of more than 64 bits.
        """
        self._refuse_unknown(parameters, path)
        try:
            values = {name: self._from_text(name, text) for name, text in path.items()}
            for name, texts in parameters.items():
                values[name] = self._from_texts(name, texts)
            message = self._build(values)
        except msgspec.MsgspecError as error:
            raise self._malformed(str(error)) from error
        texts = (*path.values(), *chain.from_iterable(parameters.values()))
        if any(len(text) >= DIGITS_ASKED for text in texts):
            self._form.check_whole(message)
        return message

    def _build(self, values: dict[str, Any]) -> Any:
        missing = [n for n, f in self._fields.items() if f.required and n not in values]
        if missing:
            raise self._malformed(f"missing {missing}")
        return self._cls(**values)

    def _from_json(self, name: str, raw: bytes) -> Any:
        try:
            return self._decoders[name](raw)
        except msgspec.ValidationError as error:
            raise self._malformed(f"{name}: {error}") from error

    def _from_text(self, name: str, text: str) -> Any:
        try:
            return msgspec.convert(text, self._hints[name], strict=False)
        except msgspec.ValidationError as error:
            raise self._malformed(f"{name}={text!r}: {error}") from error

    def _nullable(self, name: str) -> bool:
        try:
            return self._from_text(name, "null") is None
        except MalformedMessage:
            return False

    def _from_texts(self, name: str, texts: Sequence[str]) -> Any:
        try:
            return msgspec.convert(list(texts), self._hints[name], strict=False)
        except msgspec.ValidationError:
            if len(texts) != 1:
                raise self._malformed(f"{name} is given {len(texts)} times") from None
        return self._from_text(name, texts[0])

    def _refuse_unknown(
        self, fields: Mapping[str, Any], path: Mapping[str, Any] | None = None
    ) -> None:
        unknown = [name for name in fields if name not in self._fields]
        if unknown:
            raise self._malformed(f"unknown {unknown}, known are {list(self._fields)}")
        twice = [name for name in fields if path and name in path]
        if twice:
            raise self._malformed(f"{twice} given in the path and again beside it")

    def _malformed(self, reason: str) -> MalformedMessage:
        return MalformedMessage(name=f"{self.kind.kind} {self.kind.name!r}", reason=reason)


def _text(value: Any) -> str:
    plain = msgspec.to_builtins(value)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return "null" if plain is None else str(plain)
