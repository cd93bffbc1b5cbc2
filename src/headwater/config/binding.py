"""Settings as typed values: environment overrides, conversion, errors that name the origin."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import msgspec
import structlog

from headwater.config.api import ConfigDocument
from headwater.config.tree import (
    MASK,
    MISSING,
    Path,
    Tree,
    dotted,
    is_secret,
    lookup,
    merge,
    parse_path,
)
from headwater.errors import ConfigurationError

PREFIX = "HEADWATER__"

T = TypeVar("T")
StructType = type[msgspec.Struct]

_AT = re.compile(r" - at `\$(.*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`")
_UNKNOWN = re.compile(r"contains unknown field `([^`]+)`")

_log = structlog.get_logger("headwater.config")


def override(document: ConfigDocument, environment: Mapping[str, str]) -> ConfigDocument:
    """Return the document with ``HEADWATER__SECTION__KEY`` variables set over it.

    Names match existing keys without regard to case, with ``-`` as ``_``; new keys are lower
    case. A value that starts with ``[`` or ``{`` and is JSON is taken as such, any other as text,
    which the binding converts.
    """
    config, origins = document.config, dict(document.origins)
    for name in sorted(environment):
        if not name.startswith(PREFIX) or not all(name[len(PREFIX) :].split("__")):
            continue
        path = _existing(config, name[len(PREFIX) :].split("__"))
        value = _value(environment[name])
        branch: Any = value
        for step in reversed(path):
            branch = {step: branch}
        config = merge(config, branch)
        origins = {key: at for key, at in origins.items() if not _below(key, dotted(path))}
        origins[dotted(path)] = f"environment variable {name}"
    if config is document.config:
        return document
    return msgspec.structs.replace(document, config=config, origins=origins)


def bind(document: ConfigDocument, type: type[T], *, prefix: str = "") -> T:
    """Return the section at ``prefix`` as a value of a type; texts are converted where it asks.

    A section that does not exist is empty: the type's defaults hold.

    Raises:
        ConfigurationError: names key, value (unless secret), what was expected, and the origin.
    """
    path = parse_path(prefix)
    section = lookup(document.config, path)
    if section is MISSING or section is None:
        section = {}
    try:
        value = msgspec.convert(section, type, strict=False)
    except msgspec.ValidationError as error:
        raise _refusal(document, path, section, str(error)) from None
    if isinstance(section, dict):
        _warn_unknown(document, path, section, type)
    return value


def _refusal(
    document: ConfigDocument, prefix: Path, section: Any, message: str
) -> ConfigurationError:
    found = _AT.search(message)
    reason = _AT.sub("", message)
    inner = parse_path(found[1].replace("[...]", "")) if found else ()
    absent = _MISSING.search(reason)
    unknown = _UNKNOWN.search(reason)
    if absent:
        path = (*prefix, *inner, absent[1])
        return ConfigurationError(
            subject=_origin(document, (*prefix, *inner)),
            reason=f"key {dotted(path)!r} is missing: set it",
        )
    if unknown:
        path = (*prefix, *inner, unknown[1])
        return ConfigurationError(
            subject=_origin(document, path),
            reason=f"key {dotted(path)!r} is not known here: correct or remove it",
        )
    path = (*prefix, *inner)
    value = lookup(section, inner)
    shown = MASK if is_secret(path) else repr("(nothing)" if value is MISSING else value)
    expected = reason[:1].lower() + reason[1:]
    return ConfigurationError(
        subject=_origin(document, path),
        reason=f"key {dotted(path) or '(all)'!r} is {shown}: {expected}",
    )


def _origin(document: ConfigDocument, path: Path) -> str:
    key = dotted(path)
    for length in range(len(path), 0, -1):
        found = document.origins.get(dotted(path[:length]))
        if found:
            return found
    below = [at for name, at in document.origins.items() if _below(name, key)]
    if key and below:
        return below[0].rsplit(":", 1)[0] if ":" in below[0] else below[0]
    return f"configuration of {document.name!r}"


def _warn_unknown(document: ConfigDocument, path: Path, section: Tree, type: Any) -> None:
    if not (isinstance(type, msgspec.StructMeta) and path):
        return  # at the top other parts of the program have their sections, too
    known = {field.encode_name for field in msgspec.structs.fields(cast(StructType, type))}
    for key in section.keys() - known:
        full = (*path, key)
        _log.warning("unknown setting, ignored", key=dotted(full), origin=_origin(document, full))


def _existing(config: Tree, names: list[str]) -> Path:
    path: list[str | int] = []
    place: Any = config
    for name in names:
        wanted = name.lower()
        keys = place if isinstance(place, dict) else {}
        step = next((k for k in keys if k.lower().replace("-", "_") == wanted), wanted)
        path.append(step)
        place = keys.get(step)
    return tuple(path)


def _below(key: str, section: str) -> bool:
    return key == section or key.startswith((f"{section}.", f"{section}["))


def _value(text: str) -> Any:
    if text.lstrip().startswith(("[", "{")):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    return text


__all__ = ["PREFIX", "bind", "override"]
