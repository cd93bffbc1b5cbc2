#!/bin/sh
# Installs a version of PostgreSQL from Debian unless it is there; makes and starts no cluster.
# Usage: debian-postgres.sh VERSION
set -eu
version=$1

if [ -x "/usr/lib/postgresql/$version/bin/postgres" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "PostgreSQL $version is not in /usr/lib/postgresql/$version;" \
        "as root on Debian it is installed, elsewhere install it first" >&2
    exit 1
fi

install() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" >/dev/null
}

apt-get -qq update
if ! apt-cache show "postgresql-$version" >/dev/null 2>&1; then
    echo "this system has no package postgresql-$version: use Debian 12, or install" \
        "PostgreSQL $version into /usr/lib/postgresql/$version" >&2
    exit 1
fi
install postgresql-common
sed -i 's/^#*\s*create_main_cluster.*/create_main_cluster = false/' \
    /etc/postgresql-common/createcluster.conf
install "postgresql-$version"
[ -x "/usr/lib/postgresql/$version/bin/postgres" ]
