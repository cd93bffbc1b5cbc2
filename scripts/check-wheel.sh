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
import pkgutil

import headwater

for module in pkgutil.walk_packages(headwater.__path__, "headwater."):
    if "testing" not in module.name and not module.name.endswith("__main__"):  # needs pytest
        importlib.import_module(module.name)
print("wheel: headwater", headwater.__version__, "imports from", headwater.__path__[0])
PYTHON
