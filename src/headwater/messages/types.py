"""Command, Event and Query, and what is declared on them: name, version, tags, target, route."""

import functools
import re
from collections.abc import Callable, Iterable
from typing import (
    Annotated,
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

R = TypeVar("R")
M = TypeVar("M", bound="type[Command | Event | Query[Any]]")


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class MessageMeta(msgspec.StructMeta):
    """Tells type checkers that subclasses of messages are frozen, as they are at run time.

    ``changes`` counts what has been defined and named, so that whoever keeps a table of classes
    can tell that it is out of date.
    """

    changes: ClassVar[int] = 0

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ARG002  # of msgspec
        super().__init__(*args)
        MessageMeta.changes += 1


class Command(msgspec.Struct, frozen=True, metaclass=MessageMeta):
    """A request to change something. Its first field, or the one marked `Target`, names what."""


class Event(msgspec.Struct, frozen=True, metaclass=MessageMeta):
    """A fact that happened, named in the past tense; stored for ever."""


class Query(msgspec.Struct, Generic[R], frozen=True, metaclass=MessageMeta):
    """A question; ``Query[AccountView]`` states the type of its answer."""


class Tag:
    """Marks a field as a tag: ``email: Annotated[str, Tag("email")]`` gives ``email:a@b.example``.

    Tags on events are stored and indexed; a consistency boundary and a read select by them.
    """

    def __init__(self, name: str = "") -> None:
        """Name the tag; without a name it is called like the field."""
        self.name = name


class Target:
    """Marks the field of a command or query that names its target, when it is not the first."""


class Route(msgspec.Struct, frozen=True):
    """An HTTP method and a path template such as ``/accounts/{account_id}/deposits``."""

    method: str
    path: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in braces, in order."""
        return tuple(re.findall(r"{(\w+)}", self.path))


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
    tag_fields: tuple[tuple[str, str], ...]
    answer: Any

    @property
    def names(self) -> tuple[str, ...]:
        """The wire names that it has and had."""
        return tuple(dict.fromkeys((self.name, *self.aliases)))

    def target_of(self, message: Any) -> str:
        """Return the id that the message is directed at; ``""`` when it has no fields."""
        return str(getattr(message, self.target)) if self.target else ""

    def tags_of(self, message: Any) -> tuple[str, ...]:
        """Return the tags of a message, ``name:value``, skipping fields that are None."""
        if not self.tag_fields:
            return ()
        pairs = ((tag, getattr(message, field)) for field, tag in self.tag_fields)
        return tuple(f"{tag}:{value}" for tag, value in pairs if value is not None)

    @property
    def route(self) -> Route:
        """The declared route, else ``POST /commands/<Name>`` or ``GET /queries/<Name>``."""
        declared = _ROUTES.get(self.cls)
        if declared is not None:
            return declared
        if self.kind == "query":
            return Route("GET", f"/queries/{self.name}")
        return Route("POST", f"/commands/{self.name}")

    @property
    def upcasters(self) -> dict[int, Callable[[dict[str, Any]], dict[str, Any]]]:
        """Functions that lift stored content, by the version they start from."""
        return _UPCASTERS.get(self.cls, {})


_WIRE: dict[type, tuple[str, int, tuple[str, ...], str]] = {}
_ROUTES: dict[type, Route] = {}
_UPCASTERS: dict[type, dict[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {}


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
    the query string of a query.

    Raises:
        DeclarationError: the text is not ``METHOD /path``, a name in braces is no field, or the
            method does not fit (queries are GET; commands are POST, PUT, PATCH or DELETE).
    """

    def declare(cls: M) -> M:
        method, _, path = spec.partition(" ")
        allowed = ("GET",) if issubclass(cls, Query) else ("POST", "PUT", "PATCH", "DELETE")
        declared = Route(method, path)
        missing = [name for name in declared.parameters if name not in cls.__struct_fields__]
        reason = ""
        if method not in allowed or not path.startswith("/"):
            reason = f"@route({spec!r}) must be one of {', '.join(allowed)}, then a path from /"
        elif missing:
            reason = f"@route({spec!r}) names {missing}, fields are {list(cls.__struct_fields__)}"
        if reason:
            raise DeclarationError(subject=cls.__name__, reason=reason)
        _ROUTES[cls] = declared
        return cls

    return declare


Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


def upcaster(event: type[Event], *, from_version: int) -> Callable[[Upcaster], Upcaster]:
    """Register a function that turns content of ``from_version`` into the next version's.

    Raises:
        DeclarationError: that step is registered already, or the event has no later version.
    """

    def declare(function: Upcaster) -> Upcaster:
        kind = message_type(event)
        steps = _UPCASTERS.setdefault(event, {})
        if from_version in steps or not 1 <= from_version < kind.version:
            reason = (
                f"@upcaster(from_version={from_version}) is given twice or outside "
                f"1..{kind.version - 1}: raise @wire(version=) or remove one"
            )
            raise DeclarationError(subject=event.__name__, reason=reason)
        steps[from_version] = function
        return function

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
    target = next(
        (f for f in fields if any(m is Target or isinstance(m, Target) for m in _marks(hints[f]))),
        fields[0] if fields else "",
    )
    return MessageType(
        cls=cls,
        kind=kind,
        name=name,
        version=version,
        aliases=aliases,
        source=next(filter(None, sources), ""),
        fields=fields,
        target=target,
        tag_fields=tuple(
            (field, (mark.name or field) if isinstance(mark, Tag) else field)
            for field in fields
            for mark in _marks(hints[field])
            if mark is Tag or isinstance(mark, Tag)
        ),
        answer=_answer(cls) if kind == "query" else None,
    )


def _marks(hint: Any) -> tuple[Any, ...]:
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def _answer(cls: type) -> Any:
    for base in cls.__mro__:
        for generic in base.__dict__.get("__orig_bases__", ()):
            origin = get_origin(generic)
            if isinstance(origin, type) and issubclass(origin, Query):
                return get_args(generic)[0]
    raise DeclarationError(
        subject=cls.__name__, reason="state the type of the answer: class X(Query[Answer])"
    )
