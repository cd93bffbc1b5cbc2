#!/bin/sh
# Puts Apache Kafka into a directory, once: install.sh DIRECTORY. Needs Java and Maven.
set -eu
directory=$1
here=$(cd "$(dirname "$0")" && pwd)
done=$directory/.copied

if [ -e "$done" ] && cmp -s "$here/pom.xml" "$done"; then
    exit 0
fi
mkdir -p "$directory"
exec 9>"$directory/.lock"
flock 9  # several test processes may want it at once
if [ -e "$done" ] && cmp -s "$here/pom.xml" "$done"; then
    exit 0
fi
rm -f "$directory"/*.jar
copying=$(mktemp -d)
trap 'rm -rf "$copying"' EXIT
for pause_s in 5 20 0; do
    if mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies \
        "-DoutputDirectory=$copying" >"$copying/log" 2>&1; then
        chmod 644 "$copying"/*.jar
        mv "$copying"/*.jar "$directory"
        cp "$here/pom.xml" "$done"
        exit 0
    fi
    sleep "$pause_s"
done
cat "$copying/log" >&2
echo "Apache Kafka cannot be fetched with Maven, see above" >&2
exit 1
