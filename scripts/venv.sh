#!/bin/sh
# Make a virtual environment with a Python that is new enough: venv.sh PYTHON DIRECTORY
set -eu

python=$1
directory=$2

fail() {
    echo "headwater: $*" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    fail "$python was not found: install Python 3.11 or newer, or name one: make PYTHON=python3.12"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" -V) is too old, expected 3.11 or newer: name another one: make PYTHON=python3.12"

make_it() {
    rm -rf "$directory"
    "$python" -m venv "$directory" >/dev/null 2>&1
}

if ! make_it; then
    # Debian ships venv's installer in a package of its own.
    package=$("$python" -c 'import sys; print(f"python3.{sys.version_info[1]}-venv")')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "headwater: installing $package, which $python -m venv needs" >&2
        sh "$(dirname "$0")/apt-install.sh" "$package" ||
            fail "$package cannot be installed: install it by hand"
    fi
    make_it || fail "'$python -m venv' does not work: on Debian or Ubuntu, apt install $package"
fi
