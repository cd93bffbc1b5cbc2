"""The code of a projection: a text that differs between programs that make other views.

It is read from the sources: the handlers, the classes of views and events, and all that these
name, as far as it is of the same program. Comments, docstrings, the layout of the text and the
modules that it is in do not count.
"""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from headwater.messages.inheritance import handlers_of, known_events
from headwater.messages.upcasting import sources_of, steps_of
from headwater.modelling.event_handlers import EventHandlers
from headwater.modelling.handler_tables import handler_table
from headwater.modelling.marks import MARK
from headwater.views import SqlTable
from headwater.views.model import model_form, model_name

_DIGEST_BYTES = 6
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_INSTALLED = {"site-packages", "dist-packages"}


def code_of(cls: type[EventHandlers]) -> str:
    """Return the code of a projection.

    With a ``version`` the handlers do not count, but it does; the classes of views always do.
    """
    any_class: Any = cls
    return str(_code_of(any_class))


@functools.cache
def _code_of(cls: Any) -> str:
    table = handler_table(cls)
    sources = _Sources(cls.__module__)
    for view in table.views:
        sources.add_class(view)
        if issubclass(view, SqlTable):  # whatever its text was made of
            sources.add_text(f"{model_name(view)} {model_form(view)}")
    if not cls.version:
        sources.add_text(f"source = {cls.source}")
        for method in handlers_of(cls, MARK):
            sources.add_function(method.function, cls)
        events = known_events(table.events)
        for event in (*events, *(older for one in events for older in sources_of(one))):
            sources.add_class(event)
            for step in steps_of(event):
                sources.add_function(step)
    digest = sources.digest()
    return f"{cls.version}-{digest}" if cls.version else digest


class _Sources:
    """What was found so far; follows names within one program."""

    def __init__(self, module: str) -> None:
        self._root = module.partition(".")[0]
        self._texts: set[str] = set()
        self._seen: set[tuple[str, int, int]] = set()

    def digest(self) -> str:
        """Return what all of it comes to."""
        whole = "\n".join(sorted(self._texts)).encode()
        return hashlib.blake2b(whole, digest_size=_DIGEST_BYTES).hexdigest()

    def add_text(self, text: str) -> None:
        self._texts.add(text)

    def add_class(self, cls: type) -> None:
        """Add a class and its bases."""
        for base in cls.__mro__:
            if self._is_ours(base.__module__):
                node = _node_of_class(base)
                if node is None:
                    text = f"{base.__qualname__}{getattr(base, '__annotations__', {})}"
                    self._texts.add(_ADDRESS.sub("", text))
                else:
                    self._add(node, base.__module__, cls)

    def add_function(self, function: Any, cls: type | None = None) -> None:
        """Add a function; ``cls`` is what its ``self`` is of."""
        function = inspect.unwrap(function)
        code = getattr(function, "__code__", None)
        module = getattr(function, "__module__", "") or ""
        if code is None or not self._is_ours(module):
            return
        nodes = _nodes_at(module, code.co_firstlineno, function.__name__)
        if not nodes:  # there is no source: what it was compiled to
            self._texts.add(f"{function.__name__} {code.co_code.hex()} {_constants(code)}")
        outer = _outer(function)
        for node in nodes:
            self._add(node, module, cls, outer)

    def _add(
        self, node: ast.AST, module: str, cls: type | None, outer: dict[str, Any] | None = None
    ) -> None:
        key = (module, getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
        if key in self._seen:
            return
        self._seen.add(key)
        self._texts.add(_dump(node))
        for first, rest in _names(node):
            if first in ("self", "cls") and cls is not None and rest:
                self._add_attribute(cls, rest[0])
            elif outer and first in outer:
                self._add_value(outer[first], first)
            else:
                self._add_global(module, first, rest)

    def _add_attribute(self, cls: type, name: str) -> None:
        """Add what a class, or one of its bases, says of an attribute."""
        owner = next((base for base in cls.__mro__ if name in base.__dict__), None)
        if owner is None or not self._is_ours(owner.__module__):
            return
        body = _node_of_class(owner)
        for node in body.body if isinstance(body, ast.ClassDef) else ():
            if name in _defined(node):
                self._add(node, owner.__module__, cls)

    def _add_global(self, module: str, name: str, rest: tuple[str, ...]) -> None:
        """Add what a module says of a name, in whatever module it is defined."""
        for node in _index(module).get(name, ()):
            if isinstance(node, ast.ImportFrom | ast.Import):
                self._follow(node, module, name, rest)
            else:
                found = getattr(sys.modules.get(module), name, None)
                self._add(node, module, found if isinstance(found, type) else None)
                if isinstance(found, type):
                    self.add_class(found)

    def _follow(
        self,
        node: ast.ImportFrom | ast.Import,
        module: str,
        name: str,
        rest: tuple[str, ...],
    ) -> None:
        for alias in node.names:
            if name != _bound(alias):
                continue
            if isinstance(node, ast.ImportFrom):
                target = _absolute(node, module)
                inner = f"{target}.{alias.name}"
                if inner not in sys.modules:
                    if self._is_ours(target):
                        self._add_global(target, alias.name, rest)
                    continue
            else:
                inner = alias.name if alias.asname else name
            while rest and f"{inner}.{rest[0]}" in sys.modules:
                inner, rest = f"{inner}.{rest[0]}", rest[1:]
            if rest and self._is_ours(inner):
                self._add_global(inner, rest[0], rest[1:])

    def _add_value(self, value: Any, name: str) -> None:
        """Add what a surrounding function has put into a name."""
        if isinstance(value, type):
            self.add_class(value)
        elif inspect.isfunction(value):
            self.add_function(value)
        elif value is None or isinstance(value, bool | int | float | str | bytes):
            self._texts.add(f"{name} = {value!r}")

    def _is_ours(self, module: str) -> bool:
        """Whether a module is of the program, not of the library or of what it uses."""
        root = module.partition(".")[0]
        if root == self._root:
            return True
        if root == "headwater" or root in sys.stdlib_module_names:
            return False
        file = getattr(sys.modules.get(module), "__file__", None)
        return bool(file) and _INSTALLED.isdisjoint(Path(file or "").parts)


# sources ---------------------------------------------------------------------------------------


@functools.cache
def _tree(module: str) -> ast.Module | None:
    """Return the source of a module; None when there is none."""
    loaded: ModuleType | None = sys.modules.get(module)
    try:
        return ast.parse(inspect.getsource(loaded)) if loaded is not None else None
    except (OSError, TypeError, SyntaxError):
        return None


@functools.cache
def _index(module: str) -> dict[str, list[ast.stmt]]:
    """Return by name the statements of a module that define or import it."""
    tree = _tree(module)
    found: dict[str, list[ast.stmt]] = {}
    for node in _statements(tree) if tree is not None else ():
        if isinstance(node, ast.ImportFrom | ast.Import):
            names = set(map(_bound, node.names))
        else:
            names = _defined(node)
        for name in names:
            found.setdefault(name, []).append(node)
    return found


def _nodes_at(module: str, line: int, name: str) -> list[ast.AST]:
    """Return the functions, or the lambdas, that begin in a line."""
    tree = _tree(module)
    found: list[ast.AST] = []
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            if first == line and node.name == name:
                found.append(node)
        elif isinstance(node, ast.Lambda) and name == "<lambda>" and node.lineno == line:
            found.append(node)
    return found


def _node_of_class(cls: type) -> ast.ClassDef | None:
    """Return the source of a class; of several with its name the one that is nested alike."""
    tree: Any = _tree(cls.__module__)
    names = [name for name in cls.__qualname__.split(".") if name != "<locals>"]
    found: list[Any] = [tree] if tree is not None else []
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for name in names:
        inner = (n for outer in found for n in ast.walk(outer) if n is not outer)
        found = [node for node in inner if isinstance(node, kinds) and node.name == name]
    classes = [node for node in found if isinstance(node, ast.ClassDef)]
    fields = set(cls.__dict__) | set(getattr(cls, "__annotations__", {}))
    fitting = [n for n in classes if all(_defined(one) <= fields for one in n.body)]
    return next(iter(fitting or classes), None)


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those within ``if`` and ``try`` too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from _statements(child)
        elif isinstance(child, ast.stmt):
            yield child


def _defined(node: ast.stmt) -> set[str]:
    """Return the names that a statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    elif hasattr(ast, "TypeAlias") and isinstance(node, ast.TypeAlias):
        targets = [node.name]
    return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}


def _names(node: ast.AST) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the names that are used, each with the attributes that follow it."""
    for one in ast.walk(node):
        rest: list[str] = []
        inner: ast.AST = one
        while isinstance(inner, ast.Attribute):
            rest.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            yield inner.id, tuple(reversed(rest))
        if (
            isinstance(one, ast.Constant)
            and isinstance(one.value, str)
            and one.value.isidentifier()
        ):
            yield one.value, ()  # an annotation in quotes


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _outer(function: Any) -> dict[str, Any]:
    """Return what a function has from those around it."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # nothing was put into it yet
            found[name] = cell.cell_contents
    return found


def _absolute(node: ast.ImportFrom, module: str) -> str:
    """Return the module that an import names."""
    package = getattr(sys.modules.get(module), "__package__", None) or module.rpartition(".")[0]
    name = "." * node.level + (node.module or "")
    return importlib.util.resolve_name(name, package) if node.level else name


def _dump(node: ast.AST) -> str:
    """Return a tree as text, the same in all versions of Python."""
    parts = [type(node).__name__]
    for name, value in ast.iter_fields(node):
        if name in ("ctx", "kind", "type_comment", "type_params") or value in (None, []):
            continue
        items = value if isinstance(value, list) else [value]
        if name == "body" and items and _is_docstring(items[0]):
            items = items[1:]
        texts = [_dump(one) if isinstance(one, ast.AST) else repr(one) for one in items]
        parts.append(f"{name}={','.join(texts)}")
    return f"({' '.join(parts)})"


def _is_docstring(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _constants(code: Any) -> str:
    return f"{code.co_names} {[_constant(one) for one in code.co_consts]}"


def _constant(value: Any) -> str:
    if hasattr(value, "co_code"):
        return f"{value.co_code.hex()} {_constants(value)}"
    if isinstance(value, frozenset):  # else it would be in another order in each process
        return str(sorted(map(repr, value)))
    return repr(value)
