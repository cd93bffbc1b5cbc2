"""Finding a service in its module, with one clear error when that fails."""

import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from headwater.errors import ConfigurationError, DeclarationError, HeadwaterError
from headwater.operations.documents import nearest
from headwater.service.service import Service


def load_service(app: str, *, python_path: Sequence[Path] = ()) -> Service:
    """Import ``module:attribute`` and return the service; or the one that is in ``file.py``.

    Args:
        app: what to import; a file with several services needs the ``:attribute``, too.
        python_path: where to look first; the working directory is always searched, and of a file
            its folder.

    Raises:
        ConfigurationError: there is no such module or service in it, or its import fails.
        DeclarationError: something in it is declared wrongly.
    """
    module_name, separator, attribute = app.partition(":")
    if not module_name or not (attribute or (is_file(app) and not separator)):
        raise ConfigurationError(
            subject=app,
            reason='expected "module:service" or "file.py", for example bank.accounts:service',
        )
    of_file = [Path(module_name).resolve().parent] if is_file(app) else []
    for path in reversed([*of_file, *python_path, Path.cwd()]):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    module = _import(module_name, _run_file if is_file(app) else importlib.import_module)
    services = {name: one for name, one in vars(module).items() if isinstance(one, Service)}
    if not attribute and len({id(one) for one in services.values()}) == 1:
        return next(iter(services.values()))
    if attribute in services:
        return services[attribute]
    raise _no_service(app, attribute, module, services)


def _no_service(
    app: str, attribute: str, module: ModuleType, services: Mapping[str, Service]
) -> ConfigurationError:
    hint = f"its services: {', '.join(services)}" if services else "it has no Service at all"
    if not attribute and services:
        example = f"{app}:{next(iter(services))}"
        return ConfigurationError(subject=app, reason=f"say which one, as {example}; {hint}")
    if not attribute:
        return ConfigurationError(subject=app, reason=f"{hint}: service = Service(...)")
    what = "is not a Service" if hasattr(module, attribute) else "does not exist"
    reason = f"{attribute!r} in {module.__file__} {what}: {hint}"
    return ConfigurationError(subject=app, reason=reason)


def is_file(app: str) -> bool:
    """Whether a service is named by its file, ``shop.py`` or ``shop.py:service``."""
    return app.partition(":")[0].endswith(".py")


def _run_file(name: str) -> ModuleType:
    """Import a file as a module of its own, wherever it is and whatever else has its name."""
    path = Path(name)
    if not path.is_file():
        raise ConfigurationError(subject=name, reason=f"there is no such file in {Path.cwd()}")
    module_name = path.stem if path.stem not in sys.modules else f"{path.stem}_file"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def _import(name: str, load: Callable[[str], ModuleType]) -> ModuleType:
    try:
        return load(name)
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
