"""``headwater new``: a service that runs at once."""

import keyword
import re
import sys
from importlib.resources import files
from pathlib import Path
from string import Template

from headwater.errors import ConfigurationError

_FILES = {
    "headwater.toml": "headwater.toml.txt",
    "config/application.yaml": "application.yaml.txt",
    "{package}/__init__.py": "",
    "{package}/messages.py": "messages.py.txt",
    "{package}/service.py": "service.py.txt",
    "tests/test_tasks.py": "test_tasks.py.txt",
    "conftest.py": "conftest.py.txt",
    "README.md": "README.md.txt",
    ".gitignore": "gitignore.txt",
}


def new(name: str, *, directory: Path | None = None) -> None:
    """Make a new service with an aggregate, a projection, routes, tests and a system file.

    Parameters
    ----------
    name
        Its name: letters, digits, - and _.
    directory
        Where to make it; default: a new folder of that name.
    """
    package = _package(name)
    folder = directory or Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(
            subject=str(folder), reason="exists and is not empty: choose another name or directory"
        )
    templates = files("headwater.cli") / "scaffold"
    for path, template in _FILES.items():
        text = (templates / template).read_text(encoding="utf-8") if template else _DOCSTRING
        content = Template(text).substitute(name=name, package=package)
        _write(folder / path.format(package=package), content)
    where = "" if folder == Path() else f"  cd {folder}\n"
    sys.stdout.write(f"{name} is in {folder}. Start it:\n\n{where}  headwater up\n")


_DOCSTRING = '"""The $name service."""\n'


def _package(name: str) -> str:
    """Return the name of the Python package.

    Raises:
        ConfigurationError: the name cannot be one.
    """
    package = name.replace("-", "_").lower()
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) or keyword.iskeyword(package):
        raise ConfigurationError(
            subject=f"name {name!r}", reason="expected a letter, then letters, digits, - or _"
        )
    if package in sys.stdlib_module_names or package in {"headwater", "tests", "config"}:
        raise ConfigurationError(
            subject=f"name {name!r}",
            reason="is the name of a Python module already: choose another",
        )
    return package


def _write(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            subject=str(path), reason=f"cannot be written: {error.strerror}"
        ) from error
