"""What all errors are made of: fields, a message made from them, and the way across the network."""

import inspect
import re
from typing import Any, ClassVar, Literal, Self, dataclass_transform, get_args, get_type_hints

import msgspec

Outcome = Literal["stored", "not stored", "unknown"]
_OUTCOMES = get_args(Outcome)

REGISTRY: dict[str, list[type["HeadwaterError"]]] = {}  # newest first


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def _rebuild(
    cls: type["HeadwaterError"], outcome: Outcome, fields: dict[str, Any]
) -> "HeadwaterError":
    return cls(outcome=outcome, **fields)


@dataclass_transform(kw_only_default=True, eq_default=False)
class HeadwaterError(Exception):
    """Base of all errors. Annotated names are keyword-only fields; ``template`` is the message.

    ``status`` is the HTTP status, ``code`` the stable name on the wire (the class name in kebab
    case unless stated). ``outcome`` says what became of the work that the error ended: ``stored``,
    ``not stored``, or ``unknown``; a class states what is usual, and any error can be given another
    by keyword. It is no field: every error has it, and it crosses the network beside them.
    ``decided`` says that whoever handles such a message looked at it and said no, so that sending
    it again cannot help; everything else may be different next time.
    ``_doubt`` follows the message when it is unknown.
    """

    outcome: Outcome = "not stored"
    decided: ClassVar[bool] = False
    status: ClassVar[int] = 500
    code: ClassVar[str] = "headwater-error"
    template: ClassVar[str] = ""
    _doubt: ClassVar[str] = ""
    _names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Register the class under its wire code and note its fields."""
        super().__init_subclass__(**kwargs)
        if "code" not in cls.__dict__:
            cls.code = _kebab(cls.__name__)
        own = [
            name
            for name, kind in inspect.get_annotations(cls).items()
            if not name.startswith("_") and name != "outcome" and "ClassVar" not in str(kind)
        ]
        cls._names = (*cls._names, *(name for name in own if name not in cls._names))
        REGISTRY.setdefault(cls.code, []).insert(0, cls)

    def __init__(self, *, outcome: Outcome | None = None, **fields: Any) -> None:
        """Take the declared fields by keyword, and the outcome where it is not the usual one.

        Raises:
            TypeError: a field is unknown or missing.
        """
        cls = type(self)
        unknown = [name for name in fields if name not in cls._names]
        missing = [n for n in cls._names if n not in fields and not hasattr(cls, n)]
        if unknown or missing:
            msg = f"{cls.__name__}(): unknown fields {unknown}, missing fields {missing}"
            raise TypeError(msg)
        for name, value in fields.items():
            setattr(self, name, value)
        if outcome is not None:
            self.outcome = outcome
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by class, outcome and fields."""
        return _rebuild, (type(self), self.outcome, self.fields())

    def replaced(self, *, outcome: Outcome | None = None, **fields: Any) -> Self:
        """Return a new error of the same class, with some fields or the outcome changed."""
        return type(self)(outcome=outcome or self.outcome, **{**self.fields(), **fields})

    @property
    def message(self) -> str:
        """What was wrong and what to do, for a person."""
        fields = self.fields()
        if self.template:
            doubt = self._doubt if self.outcome == "unknown" else ""
            return self.template.format(**fields) + doubt
        words = _kebab(type(self).__name__).replace("-", " ")
        listed = ", ".join(f"{name}={value!r}" for name, value in fields.items())
        return f"{words}: {listed}" if listed else words

    def __str__(self) -> str:
        """Return the message."""
        return self.message

    def fields(self) -> dict[str, Any]:
        """Return the declared fields with their values."""
        return {name: getattr(self, name) for name in self._names}

    def to_problem(self) -> dict[str, Any]:
        """Return the problem document (RFC 9457) of this error."""
        return {
            "type": f"urn:headwater:error:{self.code}",
            "title": _kebab(type(self).__name__).replace("-", " "),
            "status": self.status,
            "detail": self.message,
            "code": self.code,
            "outcome": self.outcome,
            "decided": self.decided,
            "fields": msgspec.to_builtins(self.fields(), str_keys=True, enc_hook=str),
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Return the error that these fields of a problem document describe."""
        hints = get_type_hints(cls)
        known = {name: fields[name] for name in cls._names if name in fields}
        return cls(**{n: msgspec.convert(v, hints[n], strict=False) for n, v in known.items()})


def _nearest_first(
    known: list[type[HeadwaterError]], fields: Any, status: Any, place: str
) -> list[type[HeadwaterError]]:
    if not isinstance(fields, dict):
        return []
    names = set(fields)

    def distance(cls: type[HeadwaterError]) -> tuple[bool, bool, bool]:
        return declared_at(cls) != place, set(cls._names) != names, cls.status != status

    return sorted(known, key=distance)


def declared_at(cls: type[HeadwaterError]) -> str:
    """Return where a class is declared: of several with one code it is that one."""
    return f"{cls.__module__}.{cls.__qualname__}"


REGISTRY[HeadwaterError.code] = [HeadwaterError]  # subclasses register themselves


def from_problem(
    problem: Any, *, status: int = 500, source: str = "", place: str = ""
) -> HeadwaterError:
    """Return the error that a problem document describes; `RemoteError` when it is not ours.

    Of several classes with its code it is the one declared at ``place`` (see `declared_at`), else
    one of just these fields, before one with this status.
    A rejection whose class is not known here is a `RemoteRejection`.

    Args:
        problem: the decoded document, of any shape.
        status: the HTTP status it came with.
        source: who answered, for the message.
        place: where its class is declared, if that is known.
    """
    if isinstance(problem, dict):
        fields: Any = problem.get("fields")
        known = REGISTRY.get(str(problem.get("code", "")), [])
        for cls in _nearest_first(known, fields, problem.get("status"), place):
            try:
                error = cls.from_fields(fields)
            except (TypeError, NameError, msgspec.ValidationError):
                continue  # of the same name but another shape; if there is no other: remote
            if problem.get("outcome") in _OUTCOMES:
                error.outcome = problem["outcome"]
            return error
        detail = str(problem.get("detail") or problem.get("title") or problem)[:500]
        code = str(problem.get("code", ""))
    else:
        detail, code = str(problem)[:500], ""
    if isinstance(problem, dict) and problem.get("decided") is True:
        return REGISTRY["remote-rejection"][-1](source=source, remote_code=code, detail=detail)
    remote = REGISTRY["remote-error"][-1]  # these register themselves, in files above this one
    return remote(source=source, remote_status=status, detail=detail, remote_code=code)
