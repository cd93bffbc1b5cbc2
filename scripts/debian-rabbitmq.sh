#!/bin/sh
# Installs Debian's RabbitMQ unless it is there; a server that the package has started is stopped.
set -eu
server=/usr/lib/rabbitmq/bin/rabbitmq-server

if [ -x "$server" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "RabbitMQ is not in $(dirname "$server");" \
        "as root on Debian it is installed, elsewhere set HEADWATER_RABBITMQ_URL" >&2
    exit 1
fi

cd "$(dirname "$0")"
sh apt-install.sh rabbitmq-server
if [ -d /run/systemd/system ]; then
    systemctl disable --now rabbitmq-server
else
    service rabbitmq-server stop >/dev/null 2>&1 || true  # there was none
fi
[ -x "$server" ]
