#!/bin/sh
# Fail when a lock file names an address or a path: check-lock.sh FILE...
set -eu

if grep -HnE '://|(^| )(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)|file:|(^| )/' "$@" | grep -vE ':[0-9]+:#'; then
    echo "lock files name versions and hashes only: remove the lines above" >&2
    exit 1
fi
