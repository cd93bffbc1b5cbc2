"""The code of a projection: what makes it another one, and what does not."""

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import pytest

from headwater.messages import Event
from headwater.modelling import Projection, event_handler
from headwater.processing.generations.fingerprint import code_of
from headwater.views import Key, View

Load = Callable[..., str]
NUMBERS = itertools.count()  # no module has the name of another one


class Happened(Event):
    id: str


class CountView(View):
    id: Annotated[str, Key]
    total: int = 0


SERVICE = '''
from typing import Annotated
from headwater.messages import Event
from headwater.modelling import Projection, event_handler
from headwater.views import Key, View
from {package}.rates import FACTOR, in_cents, Currency
from {package} import rates


class Sold(Event):
    item: str
    price: int


class ItemView(View):
    id: Annotated[str, Key]
    total: int = 0


class Items(Projection):
    scale = 1

    @event_handler(ItemView, key="item")
    def sold(self, view: ItemView, event: Sold) -> None:
        """A docstring."""
        view.total += self.rounded(in_cents(event.price) * FACTOR + rates.FEES["sale"])
        view.total += Currency.EURO.value

    def rounded(self, amount: int) -> int:
        return amount * self.scale

    def unused(self) -> int:
        return 1
'''

RATES = """
import enum

FACTOR = 2
FEES = {"sale": 1}
OTHER = 3


class Currency(enum.Enum):
    EURO = 1


def in_cents(amount: int) -> int:
    return amount * hundred()


def hundred() -> int:
    return 100


def other() -> int:
    return 1
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Return what gives the code of the service, with some of its text changed."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def code(*changes: tuple[str, str]) -> str:
        package = f"shop_{next(NUMBERS)}"
        folder = tmp_path / package
        folder.mkdir()
        texts = {"__init__": "", "service": SERVICE.format(package=package), "rates": RATES}
        for old, new in changes:
            assert any(old in text for text in texts.values()), old
            texts = {name: text.replace(old, new) for name, text in texts.items()}
        for name, text in texts.items():
            (folder / f"{name}.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        return code_of(importlib.import_module(f"{package}.service").Items)

    yield code
    for name in [name for name in sys.modules if name.startswith("shop_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("view.total += self", "view.total -= self"),
        ('key="item"', "key=lambda event: event.item"),
        ("total: int = 0", "total: int = 1"),
        ("total: int = 0", "total: int = 0\n    times: int = 0"),
        ("total: int = 0", "total: float = 0"),
        ("id: Annotated[str, Key]", "id: Annotated[int, Key]"),
        ("price: int", "price: int = 1"),
        ("amount * self.scale", "amount + self.scale"),
        ("scale = 1", "scale = 2"),
        ("FACTOR = 2", "FACTOR = 3"),
        ('{"sale": 1}', '{"sale": 2}'),
        ("EURO = 1", "EURO = 2"),
        ("amount * hundred()", "hundred() * amount + 1"),
        ("return 100", "return 1000"),
        ("class Items(Projection):", 'class Items(Projection):\n    version = "2"'),
        ("class Items(Projection):", 'class Items(Projection):\n    source = "bus"'),
        ("class Sold(Event)", "class Other(Event):\n    item: str\n\n\nclass Sold(Other)"),
    ],
)
def test_what_makes_other_views_has_another_code(load: Load, old: str, new: str) -> None:
    """Handlers, keys, views, events, and whatever of the program they use count."""
    assert load((old, new)) != load()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A docstring."""', '"""Another one."""'),
        ('"""A docstring."""', "# a comment"),
        ("class Items(Projection):\n", "# a comment\n\n\nclass Items(Projection):\n"),
        ("* FACTOR + rates", "*  (FACTOR)+rates"),
        ("OTHER = 3", "OTHER = 4"),
        ("def other() -> int:\n    return 1", "def other() -> int:\n    return 2"),
        (
            "def unused(self) -> int:\n        return 1",
            "def unused(self) -> int:\n        return 2",
        ),
        ("import enum\n", "import enum\nimport time\n\nSTARTED = time.time()\n"),
    ],
)
def test_what_makes_the_same_views_has_the_same_code(load: Load, old: str, new: str) -> None:
    """Comments, docstrings, layout, and what the projection does not use, do not count."""
    assert load((old, new)) == load()


def test_with_a_version_the_views_count_still(load: Load) -> None:
    """A version takes the place of the handlers, not that of the views."""
    said = ("class Items(Projection):", 'class Items(Projection):\n    version = "7"')
    same = load(said)
    assert same.startswith("7-")
    assert load(said, ("FACTOR = 2", "FACTOR = 3")) == same
    assert load(said, ("total: int = 0", "total: int = 1")) != same


def test_what_a_surrounding_function_gives_counts() -> None:
    """A projection that is made by a function depends on what that was called with."""
    assert code_of(counting(1)) == code_of(counting(1))
    assert code_of(counting(1)) != code_of(counting(2))


def counting(by: int) -> type[Projection]:
    class Counting(Projection):
        name = "counting"

        @event_handler(CountView, key="id")
        def counted(self, view: CountView, event: Happened) -> None:
            view.total += by

    return Counting


def test_without_sources_what_was_compiled_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no sources another program has another code, too."""
    codes = []
    for amount in (1, 1, 2):
        module = type(sys)("made_here")
        monkeypatch.setitem(sys.modules, "made_here", module)
        text = SERVICE.format(package="nowhere").replace("scale = 1", "")
        lines = [line for line in text.splitlines() if "nowhere" not in line]
        text = (
            "\n".join(lines).replace("rates.FEES", "FEES").replace("+= self", f"+= {amount} * self")
        )
        exec(compile(text, "<made>", "exec"), module.__dict__)  # it is ours
        codes.append(code_of(module.Items))
    assert codes[0] == codes[1] != codes[2]
