#!/bin/sh
# Build the wheel, look into it, install it into an environment of its own and import it:
# check-wheel.sh PYTHON
set -eu

python=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --no-isolation --outdir "$work/dist" . >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
}

"$python" - "$work"/dist/*.whl <<'PYTHON'
import pathlib
import sys
import zipfile

source = pathlib.Path("src")
kinds = {".py", ".sql", ".typed", ".toml", ".html", ".tmpl"}
expected = {p.relative_to(source).as_posix() for p in source.rglob("*") if p.suffix in kinds}
packed = set(zipfile.ZipFile(sys.argv[1]).namelist())
missing = sorted(expected - packed)
if missing or "headwater/py.typed" not in packed:
    sys.exit(f"the wheel lacks {missing or ['headwater/py.typed']}")
PYTHON

"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --require-hashes -r requirements/runtime.txt
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --no-deps "$work"/dist/*.whl

cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import importlib
import importlib.metadata
import pkgutil
import re

import headwater

required = importlib.metadata.requires("headwater") or []
optional = {re.match(r"[\w-]+", each)[0].replace("-", "_") for each in required if "extra ==" in each}
left_out = 0
for module in pkgutil.walk_packages(headwater.__path__, "headwater."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if error.name not in optional:
            raise
        left_out += 1
print(left_out, "modules need extras that are not installed here")
print("wheel: headwater", headwater.__version__, "imports from", headwater.__path__[0])
PYTHON
