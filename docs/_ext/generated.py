"""What the documentation says of the code is read from the code.

* ``<!-- commands -->`` in a page becomes the reference of the command line, from the commands.
* ``<!-- room NAME -->`` becomes the entries of what a room exports, from their docstrings.
* ``<!-- face -->`` becomes the list of what ``from headwater import ...`` offers.
* What ``words.toml`` says of a page is in the index, which the search prefers.
* Types in signatures, and names in docstrings, link to the page of the room that exports them.
* The first mention of such a name in a section of any other page links there, too.
* A public name without a page is a warning, which fails the build.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docutils.nodes import Node, document, literal, reference, section
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging

import headwater

logger = logging.getLogger(__name__)
COMMANDS, FACE = "<!-- commands -->", "<!-- face -->"
WORDS = tomllib.loads((Path(__file__).parents[1] / "words.toml").read_text())
ROOM = re.compile(r"<!-- room ([\w.]+) -->")
ROOMS = sorted(
    each.name
    for each in pkgutil.iter_modules(headwater.__path__)
    if not each.name.startswith("_") and each.name != "cli"  # the command line has its own page
)
DOCUMENTED = [*ROOMS, "testing.history"]


def public_names(rooms: Iterable[str]) -> dict[str, str]:
    """Return where each public object is documented, by every name that may be used for it.

    A short name that several rooms export leads nowhere, as it would lead astray.
    """
    places: dict[str, str] = {}
    short: dict[str, set[str]] = {}
    for room in rooms:
        module = importlib.import_module(f"headwater.{room}")
        for name in module.__all__:
            value, place = getattr(module, name), f"headwater.{room}.{name}"
            short.setdefault(name, set()).add(place)
            if hasattr(value, "__qualname__"):
                places[f"{value.__module__}.{value.__qualname__}"] = place
    for name, found in short.items():
        if len(found) == 1:
            places[name] = places[f"headwater.{name}"] = found.pop()
    return places


def entries(room: str) -> str:
    """Return the entries of what a room exports, as Markdown that carries directives."""
    module = importlib.import_module(f"headwater.{room}")
    directives = [f".. automodule:: headwater.{room}\n   :no-members:"]
    directives += [entry(room, name, getattr(module, name)) for name in module.__all__]
    return "```{eval-rst}\n" + "\n\n".join(directives) + "\n```"


def entry(room: str, name: str, value: object) -> str:
    """Return the directive that documents one name."""
    place = f"headwater.{room}.{name}"
    if inspect.isclass(value):
        return f".. autoclass:: {place}"
    if inspect.isroutine(value):
        return f".. autofunction:: {place}"
    home, line = assigned(room, name)
    said = ModuleAnalyzer.for_module(home).find_attr_docs().get(("", name), [])
    if not said and callable(value) and type(value).__module__.startswith("headwater."):
        said = [*(inspect.getdoc(type(value)) or "").splitlines(), ""]
        called = inspect.getdoc(type(value).__call__) or ""
        said += GoogleDocstring(called, Config(napoleon_google_docstring=True)).lines()
        head = f".. py:function:: {name}{inspect.signature(value)}"
    else:
        head = f".. py:data:: {name}"
        said = [*said, "", ".. code-block:: python", "", f"   {line}"]
    return "\n   ".join([head, "", *said])


def assigned(room: str, name: str) -> tuple[str, str]:
    """Return in which module a room's name is given a value, and the statement that does it."""
    module = importlib.import_module(f"headwater.{room}")
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ImportFrom) and any(each.name == name for each in node.names):
            source = inspect.getsource(importlib.import_module(node.module or ""))
            for each in ast.parse(source).body:
                if isinstance(each, ast.Assign | ast.AnnAssign):
                    target = each.target if isinstance(each, ast.AnnAssign) else each.targets[0]
                    if ast.unparse(target) == name and each.value is not None:
                        return node.module or "", f"{name} = {ast.unparse(each.value)}"
    msg = f"nothing in headwater.{room} assigns {name}"
    raise LookupError(msg)


def commands() -> str:
    """Return the reference of all commands, as Markdown."""
    from headwater.cli.app import build_app

    text = build_app().generate_docs(recursive=True, heading_level=2, flatten_commands=True)
    _, _, text = text.partition("\n## headwater up\n")
    text = re.sub(r"``?([^`\n]+)``?", r"`\1`", text)
    return f"## headwater up\n{text}"


def face() -> str:
    """Return what the package itself exports, by room, as Markdown."""
    lines: list[str] = []
    for room, names in headwater._ROOMS.items():  # noqa: SLF001  # the list that it is made of
        lines += [f"\n## From `headwater.{room}`\n", "| name | |", "|---|---|"]
        for name in names.split():
            lines.append(
                f"| {{py:obj}}`{name} <headwater.{room}.{name}>` | {summary(room, name)} |"
            )
    return "\n".join(lines)


def summary(room: str, name: str) -> str:
    """Return the first sentence of what is said about a name of the package."""
    value = getattr(headwater, name)
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        home, line = assigned(room, name)
        said = ModuleAnalyzer.for_module(home).find_attr_docs().get(("", name), [])
        return said[0] if said else "`{}`".format(line.partition(" = ")[2].replace("|", "\\|"))
    first = (inspect.getdoc(value) or "").partition("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=\.) |: *$", first)[0].replace("``", "`").replace("|", "\\|")


def fill_in(_app: Sphinx, page: str, source: list[str]) -> None:
    """Put what is generated into a page that asks for it, and its words into the index."""
    if words := WORDS.get(page):
        entries_of_page = ", ".join(f"! {word}" for word in words)
        source[0] = f"```{{index}} {entries_of_page}\n```\n\n{source[0]}"
    if COMMANDS in source[0]:
        source[0] = source[0].replace(COMMANDS, commands())
    source[0] = ROOM.sub(lambda found: entries(found[1]), source[0])
    if FACE in source[0]:
        source[0] = source[0].replace(FACE, face())


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Node
) -> reference | None:
    """Link a name as the code knows it to where it is documented."""
    if node.get("refdomain") != "py":
        return None
    place = app.public_names.get(node["reftarget"])  # type: ignore[attr-defined]  # set in setup
    if place is None:
        return None
    domain = env.get_domain("py")
    found: Any = domain.resolve_xref(env, node["refdoc"], app.builder, "obj", place, node, content)
    return found


def link_names(app: Sphinx, tree: document, page: str) -> None:
    """Link the first mention of a public name in each section of a page to its entry."""
    if page.startswith("reference/api/"):
        return
    linked: set[tuple[int, str]] = set()
    for found in list(tree.findall(literal)):
        place = app.linked_names.get(re.split(r"[(\[]", found.astext().lstrip("@"))[0])  # type: ignore[attr-defined]
        part = id(section_of(found))
        if place is None or isinstance(found.parent, reference) or (part, place) in linked:
            continue
        linked.add((part, place))
        node = pending_xref(refdoc=page)
        domain = app.env.get_domain("py")
        resolved = domain.resolve_xref(
            app.env, page, app.builder, "obj", place, node, found.deepcopy()
        )
        if resolved is not None:
            found.replace_self(resolved)


def section_of(node: Node) -> Node | None:
    """Return the section that a node is in."""
    while node.parent is not None and not isinstance(node, section):
        node = node.parent
    return node


def type_beside_name(
    _app: Sphinx, _what: str, _name: str, _value: object, _options: object, lines: list[str]
) -> None:
    """Show the type of an attribute beside its name, not in a paragraph below."""
    at = 0
    for number, line in enumerate(list(lines)):
        if line.startswith(".. attribute::"):
            at = number
        elif line.startswith("   :type: "):
            lines.insert(at + 1, lines.pop(number))


def check(_app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of public names that have no entry."""
    documented = {name for name, *_ in env.get_domain("py").get_objects()}
    for room in DOCUMENTED:
        for name in importlib.import_module(f"headwater.{room}").__all__:
            if f"headwater.{room}.{name}" not in documented:
                logger.warning("headwater.%s.%s is public and has no entry", room, name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Take part in the build."""
    app.public_names = public_names(DOCUMENTED)  # type: ignore[attr-defined]  # kept for all pages
    names = public_names(ROOMS)
    app.linked_names = {  # type: ignore[attr-defined]  # words such as `get` may mean many things
        name: names[name] for name in names if name[0].isupper() or name in headwater.__all__
    }
    app.connect("source-read", fill_in)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", type_beside_name, priority=900)  # after napoleon
    app.connect("doctree-resolved", link_names)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True}
