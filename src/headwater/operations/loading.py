"""Finding a service in its module, with one clear error when that fails."""

import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from headwater.errors import ConfigurationError, DeclarationError, HeadwaterError
from headwater.operations.documents import nearest
from headwater.service.service import Service


def load_service(app: str, *, python_path: Sequence[Path] = ()) -> Service:
    """Import ``module:attribute`` and return the service.

    Args:
        app: what to import.
        python_path: where to look first; the working directory is always searched.

    Raises:
        ConfigurationError: there is no such module or service in it, or its import fails.
        DeclarationError: something in it is declared wrongly.
    """
    module_name, separator, attribute = app.partition(":")
    if not separator or not module_name or not attribute:
        raise ConfigurationError(
            subject=app, reason='expected "module:service", for example bank.accounts:service'
        )
    for path in reversed([*python_path, Path.cwd()]):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    module = _import(module_name)
    found = getattr(module, attribute, None)
    if isinstance(found, Service):
        return found
    services = [name for name, value in vars(module).items() if isinstance(value, Service)]
    what = "is not a Service" if found is not None else "does not exist"
    hint = f"its services: {', '.join(services)}" if services else "it has no Service at all"
    raise ConfigurationError(
        subject=app, reason=f"{attribute!r} in {module.__file__} {what}: {hint}"
    )


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise ConfigurationError(
                subject=name,
                reason=f"no module {missing!r} in {Path.cwd()} or the Python path: "
                f"{_similar(missing)}",
            ) from error
        raise _failed(name, error) from error
    except HeadwaterError as error:
        if isinstance(error, DeclarationError):
            reason = f"{error.reason} ({_place(error)})"
            raise DeclarationError(subject=error.subject, reason=reason) from error
        raise
    except Exception as error:
        raise _failed(name, error) from error


def _failed(name: str, error: Exception) -> ConfigurationError:
    if isinstance(error, SyntaxError):
        reason = f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    else:
        reason = f"{_place(error)}: {type(error).__name__}: {error}"
    return ConfigurationError(subject=name, reason=f"its import failed: {reason}")


def _place(error: BaseException) -> str:
    """Return file and line of the last frame that is not the import machinery or our own."""
    ours = str(Path(__file__).parent.parent)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith((ours, "<frozen"))]
    last = theirs[-1] if theirs else frames[-1]
    return f"{last.filename}:{last.lineno}"


def _similar(name: str) -> str:
    parent, _, last = name.rpartition(".")
    try:
        paths = importlib.import_module(parent).__path__ if parent else [str(Path.cwd())]
    except Exception:  # noqa: BLE001  # only a hint: the missing parent is reported itself
        return "check the name"
    known = [module.name for module in pkgutil.iter_modules(paths)]
    return nearest(last, known)
