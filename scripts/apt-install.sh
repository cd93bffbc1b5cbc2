#!/bin/sh
# Installs packages of Debian or Ubuntu, as root: apt-install.sh PACKAGE...
# What passes by itself, a mirror that fails or another apt at work, is waited for, within bounds.
set -eu

log=$(mktemp)
trap 'rm -f "$log"' EXIT

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
        -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 "$@" >>"$log" 2>&1
}

for pause_s in 5 20 0; do
    apt_get update || true  # of several sources one may be away for good: the packages decide
    if apt_get install "$@"; then
        exit 0
    fi
    sleep "$pause_s"
done
cat "$log" >&2
echo "apt-get cannot install $*, see above" >&2
exit 1
