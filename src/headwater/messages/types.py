"""Command, Event and Query, and what is declared on them: name, version, tags, target, route."""

import contextlib
import functools
from collections.abc import Callable, Iterable
from typing import (
    Any,
    ClassVar,
    Generic,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from headwater.errors import DeclarationError
from headwater.messages.hints import marks_on
from headwater.messages.tags import TagReader, tag_reader
from headwater.messages.url_text import NAMES_IN_PATH, encoded_path

R = TypeVar("R")
M = TypeVar("M", bound="type[Command | Event | Query[Any]]")


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class MessageMeta(msgspec.StructMeta):
    """Tells type checkers that subclasses of messages are frozen, as they are at run time.

    ``changes`` counts what has been defined and named, so that whoever keeps a table of classes
    can tell that it is out of date.

    The tags are checked when a class is made, since an event is perhaps seen first when it is
    stored; or later, when its annotations name what is declared further down, or it is generic.
    """

    changes: ClassVar[int] = 0

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> Any:
        """Make a class, and check its tags.

        Raises:
            DeclarationError: a tag stands on what has no canonical text.
        """
        cls = super().__new__(mcs, name, bases, namespace, **options)
        MessageMeta.changes += 1
        if not getattr(cls, "__parameters__", ()):
            with contextlib.suppress(NameError, AttributeError):
                tag_reader(cls)
        return cls


class Command(msgspec.Struct, frozen=True, metaclass=MessageMeta):
    """A request to change something. Its first field, or the one marked `Target`, names what."""


class Event(msgspec.Struct, frozen=True, metaclass=MessageMeta):
    """A fact that happened, named in the past tense; stored for ever."""


class Query(msgspec.Struct, Generic[R], frozen=True, metaclass=MessageMeta):
    """A question; ``Query[AccountView]`` states the type of its answer."""


class Target:
    """Marks the field of a command or query that names its target, when it is not the first.

    It is a str, an int or a UUID as a rule. Streams are called by ``str()`` of it, for ever, so
    two equal values that ``str()`` writes differently (``Decimal("1.0")`` and ``Decimal("1")``)
    are two targets; None is none.
    """


class Route(msgspec.Struct, frozen=True):
    """An HTTP method and a path template such as ``/accounts/{account_id}/deposits``."""

    method: str
    path: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in braces, in order."""
        return tuple(NAMES_IN_PATH.findall(self.path))


class MessageType(msgspec.Struct, frozen=True):
    """Everything known about one message class, computed once."""

    cls: Any
    kind: str
    name: str
    version: int
    aliases: tuple[str, ...]
    source: str
    fields: tuple[str, ...]
    target: str
    tags: TagReader | None
    answer: Any

    @property
    def names(self) -> tuple[str, ...]:
        """The wire names that it has and had."""
        return tuple(dict.fromkeys((self.name, *self.aliases)))

    def target_of(self, message: Any) -> str:
        """Return the id that the message is directed at; ``""`` when there is none."""
        value = getattr(message, self.target) if self.target else None
        return "" if value is None else str(value)

    def tags_of(self, message: Any) -> tuple[str, ...]:
        """Return the tags of a message, ``name:value``, each once; see `Tag`.

        Raises:
            InvalidInput: a value has no canonical text.
        """
        return () if self.tags is None else self.tags.of(message)

    @property
    def route(self) -> Route:
        """The declared route, else ``POST /commands/<Name>`` or ``GET /queries/<Name>``."""
        declared = _ROUTES.get(self.cls)
        if declared is not None:
            return declared
        if self.kind == "query":
            return Route("GET", f"/queries/{self.name}")
        return Route("POST", f"/commands/{self.name}")


_WIRE: dict[type, tuple[str, int, tuple[str, ...], str]] = {}
_ROUTES: dict[type, Route] = {}


def wire(
    name: str, *, version: int = 1, aliases: Iterable[str] = (), source: str = ""
) -> Callable[[M], M]:
    """Give a message class a stable name (default: the class name), a version and former names.

    Args:
        name: what it is called where it is stored and sent.
        version: raised when stored content must be lifted (see `upcaster`).
        aliases: former names, under which it may be stored.
        source: the service that owns the event, and those that derive from it. From the event
            bus only events of that service are taken for the class, whatever others call theirs.

    Raises:
        DeclarationError: a name is empty, the version below 1, or a command has a source.
    """

    def declare(cls: M) -> M:
        former = tuple(aliases)
        reason = ""
        if not name or version < 1:
            reason = f"@wire needs a name and a version from 1, got {name!r} and {version}"
        elif isinstance(aliases, str) or not all(former):
            reason = f'@wire needs aliases that are names, aliases=["Former"], got {aliases!r}'
        elif source and not issubclass(cls, Event):
            reason = f"@wire(source={source!r}) is for events: who handles it is found by its name"
        if reason:
            raise DeclarationError(subject=cls.__name__, reason=reason)
        _WIRE[cls] = (name, version, former, source)
        message_type.cache_clear()
        MessageMeta.changes += 1
        return cls

    return declare


def route(spec: str) -> Callable[[M], M]:
    """Declare the HTTP route of a command or query: ``@route("POST /accounts/{id}/close")``.

    Names in braces are fields of the message; the others travel in the body of a command and in
    the query string of a query. A field that ``rename`` or ``msgspec.field(name=)`` calls another
    name over HTTP may stand here under either; clients see the latter everywhere.

    Raises:
        DeclarationError: the text is not ``METHOD /path``, a name in braces is no field, or one of
            a type that has no text form, or the method does not fit (queries are GET; commands
            are POST, PUT, PATCH or DELETE).
    """

    def declare(cls: M) -> M:
        method, _, path = spec.partition(" ")
        allowed = ("GET",) if issubclass(cls, Query) else ("POST", "PUT", "PATCH", "DELETE")
        if method not in allowed or not path.startswith("/"):
            reason = f"@route({spec!r}) must be one of {', '.join(allowed)}, then a path from /"
            raise DeclarationError(subject=cls.__name__, reason=reason)
        _ROUTES[cls] = Route(method, encoded_path(cls, path))
        return cls

    return declare


@functools.cache
def message_type(cls: type) -> MessageType:
    """Return the `MessageType` of a message class.

    Raises:
        DeclarationError: the class is not a command, event or query.
    """
    kinds = {"command": Command, "event": Event, "query": Query}
    kind = next((name for name, base in kinds.items() if issubclass(cls, base)), None)
    if kind is None or cls in kinds.values():
        raise DeclarationError(subject=cls.__name__, reason="is not a Command, Event or Query")
    name, version, aliases, _ = _WIRE.get(cls, (cls.__name__, 1, (), ""))
    sources = (_WIRE[base][3] for base in cls.__mro__ if base in _WIRE)
    fields: tuple[str, ...] = cls.__struct_fields__  # type: ignore[attr-defined]  # a Struct
    hints = get_type_hints(cls, include_extras=True)
    marked = (field for field in fields if marks_on(hints[field], Target))
    target = next(marked, fields[0] if fields else "")
    return MessageType(
        cls=cls,
        kind=kind,
        name=name,
        version=version,
        aliases=aliases,
        source=next(filter(None, sources), ""),
        fields=fields,
        target=target,
        tags=tag_reader(cls),
        answer=_answer(cls) if kind == "query" else None,
    )


def _answer(cls: type) -> Any:
    for base in cls.__mro__:
        for generic in base.__dict__.get("__orig_bases__", ()):
            origin = get_origin(generic)
            if isinstance(origin, type) and issubclass(origin, Query):
                return get_args(generic)[0]
    raise DeclarationError(
        subject=cls.__name__, reason="state the type of the answer: class X(Query[Answer])"
    )
