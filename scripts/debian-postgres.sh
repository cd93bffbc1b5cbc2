#!/bin/sh
# Installs a version of PostgreSQL from Debian unless it is there; makes and starts no cluster.
# Usage: debian-postgres.sh VERSION
set -eu
version=$1
programs=/usr/lib/postgresql/$version/bin

if [ -x "$programs/postgres" ] && [ -x "$programs/initdb" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "PostgreSQL $version is not in $programs;" \
        "as root on Debian it is installed, elsewhere install it first" >&2
    exit 1
fi

cd "$(dirname "$0")"
sh apt-install.sh postgresql-common
if ! apt-cache show "postgresql-$version" >/dev/null 2>&1; then
    echo "this system has no package postgresql-$version: use Debian 12, or install" \
        "PostgreSQL $version into /usr/lib/postgresql/$version" >&2
    exit 1
fi
sed -i 's/^#*\s*create_main_cluster.*/create_main_cluster = false/' \
    /etc/postgresql-common/createcluster.conf
sh apt-install.sh "postgresql-$version"
[ -x "$programs/postgres" ]
