"""How commands and queries look in HTTP: written once, for the edge and for the remote buses.

A field has one name there, in the body, the path, the query string and the OpenAPI document: its
encoded name, which ``rename`` and ``msgspec.field(name=)`` may make another than the one in Python.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, get_type_hints
from urllib.parse import quote, urlencode

import msgspec

from headwater.errors import MalformedMessage
from headwater.messages import Command, Query, message_type
from headwater.messages.codec import message_form
from headwater.messages.types import MessageType
from headwater.messages.url_text import UrlText, url_text
from headwater.messages.whole_numbers import DIGITS_ASKED

_encode = msgspec.json.Encoder().encode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_OTHER_RESOURCES = ("", ".", "..")


class HttpRequest(msgspec.Struct, frozen=True):
    """A message as an HTTP request; ``path`` is encoded and holds the query string."""

    method: str
    path: str
    body: bytes


class _Field(msgspec.Struct, frozen=True):
    """A field: its name in Python, its default, and how it is read from JSON and from a URL."""

    name: str
    required: bool
    default: Any
    decode: Callable[[bytes], Any]
    text: UrlText | None
    plain: bool  # any text is a value of it


class HttpForm:
    """The HTTP form of one message type: path parameters, then body or query string.

    Attributes:
        kind: the message type.
        route: its method and path.
        tag: name and value of the member by which msgspec tells tagged structs apart, if any.
    """

    def __init__(self, cls: type[Command] | type[Query[Any]]) -> None:
        """Compile the form.

        Raises:
            DeclarationError: a field that stands in the path or the query string has no text form.
        """
        self.kind: MessageType = message_type(cls)
        self.route = self.kind.route
        self._cls = cls
        self._in_path = self.route.parameters
        hints = get_type_hints(cls, include_extras=True)
        self._fields = {  # by encoded name
            field.encode_name: self._field(field, hints[field.name])
            for field in msgspec.structs.fields(cls)
        }
        self._elsewhere = tuple(name for name in self._fields if name not in self._in_path)
        self._required = {f.name: name for name, f in self._fields.items() if f.required}
        self._unsaid = {  # how the defaults of a query would be written
            name: None if field.required else _written(field, field.default)[0]
            for name, field in self._fields.items()
            if field.text is not None
        }
        self._decode = msgspec.json.Decoder(cls).decode
        self._form = message_form(cls)
        config = cls.__struct_config__
        tagged = config.tag is not None and not config.array_like
        self.tag = (str(config.tag_field), config.tag) if tagged else None
        self._whole = not self._in_path and not config.array_like

    @property
    def names(self) -> tuple[str, ...]:
        """The encoded names of all fields."""
        return tuple(self._fields)

    @property
    def required(self) -> tuple[str, ...]:
        """The encoded names of those without a default."""
        return tuple(self._required.values())

    @property
    def key(self) -> str:
        """The path parameter that names the target, empty if none does."""
        names = (n for n in self._in_path if self._fields[n].name == self.kind.target)
        return next(names, "")

    def _field(self, field: msgspec.structs.FieldInfo, hint: Any) -> _Field:
        name, text = field.encode_name, None
        if name in self._in_path:
            text = url_text(self._cls, name, hint, place="path")
        elif self.kind.kind == "query":
            text = url_text(self._cls, name, hint, place="query string")
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        decode = msgspec.json.Decoder(hint).decode
        plain = text is not None and text.plain
        return _Field(field.name, field.required, default, decode, text, plain)

    def request(self, message: Any) -> HttpRequest:
        """Return the request that carries a message.

        Raises:
            MalformedMessage: a value would arrive as another one, or not at all, or a number has
                no form in JSON.
        """
        try:
            path = self.route.path
            for name in self._in_path:
                path = path.replace(f"{{{name}}}", quote(self._path_text(name, message), safe=""))
            if self.kind.kind == "command":
                self._form.check_finite(message)
                return HttpRequest(self.route.method, path, self._body(message))
            query = urlencode(self._pairs(message))
        except (msgspec.MsgspecError, TypeError, UnicodeEncodeError) as error:
            raise self._malformed(str(error)) from error
        return HttpRequest("GET", f"{path}?{query}" if query else path, b"")

    def _body(self, message: Any) -> bytes:
        if self._whole:
            return _encode(message)
        rest = dict([self.tag]) if self.tag else {}
        for name in self._elsewhere:
            value = getattr(message, self._fields[name].name)
            if value is not msgspec.UNSET:
                rest[name] = value
        return _encode(rest)

    def _path_text(self, name: str, message: Any) -> str:
        field = self._fields[name]
        value = getattr(message, field.name)
        texts, reason = _written(field, value)
        if texts is None:
            raise self._malformed(f"{name}={value!r} {reason}: give another value")
        if texts[0] in _OTHER_RESOURCES:
            reason = "would name another resource in a path: give the id it stands for"
            raise self._malformed(f"{name}={value!r} {reason}")
        return texts[0]

    def _pairs(self, message: Any) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        for name in self._elsewhere:
            field = self._fields[name]
            value = getattr(message, field.name)
            texts, reason = _written(field, value)
            if texts == self._unsaid[name] and (texts is not None or value == field.default):
                continue
            if not texts:
                if value is None or texts is not None:
                    reason = "cannot be told from its default in a query string"
                raise self._malformed(f"{name}={value!r} {reason}: make it the default")
            pairs.extend((name, text) for text in texts)
        return pairs

    def command(self, path: Mapping[str, str], body: bytes) -> Any:
        """Return the command of a request.

        Raises:
            MalformedMessage: the body is not a JSON object, or a field is missing, unknown, of
                the wrong type, or given twice (in the path and in the body).
        """
        try:
            if self._whole:
                content = body or b"{}"
                message = self._decode(content)
                if len(content) > 2:
                    self._refuse_unknown(_decode_object(content))
                return message
            given: dict[str, Any] = dict(_decode_object(body)) if body.strip() else {}
            self._refuse_unknown(given, path)
            self._take_tag(given)
            values = self._from_path(path)
            for name, raw in given.items():
                field = self._fields[name]
                try:
                    values[field.name] = field.decode(raw)
                except msgspec.ValidationError as error:
                    raise self._malformed(f"{name}: {error}") from error
            return self._build(values)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._malformed(str(error)) from error

    def query(self, path: Mapping[str, str], parameters: Mapping[str, Sequence[str]]) -> Any:
        """Return the query of a request; parameters have all values of each name.

        Raises:
            MalformedMessage: a parameter is missing, unknown, repeated or of the wrong type, or a
                whole number of more than 64 bits.
        """
        values = self._from_path(path)
        if parameters:
            self._refuse_unknown(parameters, path)
            for name, texts in parameters.items():
                field = self._fields[name]
                values[field.name] = self._read(field, name, texts)
        message = self._build(values)
        if any(len(text) >= DIGITS_ASKED for text in chain(path.values(), *parameters.values())):
            self._form.check_whole(message)
        return message

    def _from_path(self, path: Mapping[str, str]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, text in path.items():
            field = self._fields[name]
            values[field.name] = text if field.plain else self._read(field, name, (text,))
        return values

    def _read(self, field: _Field, name: str, texts: Sequence[str]) -> Any:
        assert field.text is not None
        try:
            return field.text.read(texts)
        except (msgspec.ValidationError, RecursionError) as error:
            given = f"={texts[0]!r}" if len(texts) == 1 else f" is given {len(texts)} times"
            raise self._malformed(f"{name}{given}: {error}") from error

    def _build(self, values: dict[str, Any]) -> Any:
        if not self._required.keys() <= values.keys():
            missing = [name for of, name in self._required.items() if of not in values]
            raise self._malformed(f"missing {missing}")
        try:
            return self._cls(**values)
        except (ValueError, TypeError) as error:  # of its __post_init__, as when it is decoded
            raise self._malformed(str(error)) from error

    def _take_tag(self, given: dict[str, Any]) -> None:
        if self.tag is not None and self.tag[0] in given:
            name, expected = self.tag
            tag = msgspec.json.decode(given.pop(name))
            if tag != expected:
                raise self._malformed(f"{name}: invalid value {tag!r}, expected {expected!r}")

    def _refuse_unknown(
        self, fields: Mapping[str, Any], path: Mapping[str, Any] | None = None
    ) -> None:
        unknown = [name for name in fields if name not in self._fields]
        if unknown and self.tag is not None and self.kind.kind == "command":
            unknown = [name for name in unknown if name != self.tag[0]]
        if unknown:
            raise self._malformed(f"unknown {unknown}, known are {list(self._fields)}")
        twice = [name for name in fields if path and name in path]
        if twice:
            raise self._malformed(f"{twice} given in the path and again beside it")

    def _malformed(self, reason: str) -> MalformedMessage:
        return MalformedMessage(name=f"{self.kind.kind} {self.kind.name!r}", reason=reason)


def _written(field: _Field, value: Any) -> tuple[list[str] | None, str]:
    """Return the texts of a value, or None and why it has none."""
    assert field.text is not None
    try:
        return field.text.write(value), ""
    except ValueError as error:
        return None, str(error)
