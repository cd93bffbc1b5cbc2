"""Check that whoever imports Headwater sees types everywhere. Run by ``make types``.

``basedpyright --verifytypes`` looks at all that is public, through the eyes of another type
checker than ours. A type that it does not know at all is a fault wherever it is. One that another
checker might infer otherwise, as it is not annotated, is a fault in what authors of services use:
the package itself, `headwater.client` and `headwater.testing`. What other libraries do not say of
their own types is theirs (``--ignoreexternal``).
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
AUTHORS = ("headwater", "headwater.client", "headwater.testing")
BARE = ("Type is missing type annotation", "Ambiguous base class override")
COMMAND = ("--verifytypes", "headwater", "--ignoreexternal", "--outputjson")


def report() -> dict[str, Any]:
    """Return what basedpyright says of the package; it finds libraries by the environment only."""
    folder = Path(sys.executable).parent
    told = subprocess.run(  # noqa: S603 - ours
        [folder / "basedpyright", *COMMAND],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}",
            "VIRTUAL_ENV": sys.prefix,
            "PYTHONPATH": str(ROOT / "src"),
        },
        stdout=subprocess.PIPE,
        check=False,
    ).stdout
    found: dict[str, Any] = json.loads(told)["typeCompleteness"]
    return found


def authors() -> set[str]:
    """Return the full names of what authors of services use."""
    rooms = [importlib.import_module(room) for room in AUTHORS]
    every = [getattr(room, name) for room in rooms for name in room.__all__]
    return {f"{one.__module__}.{one.__qualname__}" for one in every if hasattr(one, "__qualname__")}


def faults(found: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong, a line for each symbol."""
    of_authors = authors()
    for symbol in found["symbols"]:
        name = symbol["name"]
        told = [each["message"].replace("\n", " ") for each in symbol["diagnostics"]]
        unknown = not symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"]
        bare = any(each.startswith(BARE) for each in told)
        ours = name in of_authors or name.rpartition(".")[0] in of_authors
        if symbol["isExported"] and (unknown or (ours and bare)):
            yield f"{name}: {'; '.join(told)}"


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    found = report()
    wrong = list(faults(found))
    counts = found["exportedSymbolCounts"]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(
        f"{counts['withKnownType']} public types are known, {counts['withAmbiguousType']} left to "
        f"inference, {counts['withUnknownType']} unknown; {len(wrong)} are wrong"
    )
    return 1 if wrong or not found["symbols"] else 0


if __name__ == "__main__":
    sys.exit(main())
