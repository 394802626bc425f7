#!/bin/sh
# Fetches Suricata for `cargo xtask bench --only detect`, of the backports of the image's base:
# unpacked into TARGET/tools/suricata/root with every library it needs, never installed. Needs an
# image that was built once (for the base's mirror). TARGET is the argument, else target/.
set -eu
cd "$(dirname "$0")/../.."
target=${1:-$PWD/target}
out=$target/tools/suricata
mkdir -p "$out/archives/partial" "$out/lists/partial" "$out/root"

# The base's mirror, and its backports beside it.
main=$(sed -n '1p' "$target/base/debian-13-amd64/sources.list")
{
    echo "$main"
    echo "$main" | sed 's/ trixie / trixie-backports /'
} > "$out/sources.list"
# An empty status: the host's libraries are older than what Suricata is linked with.
: > "$out/status"
apt() {
    apt-get -y -q \
        -o Dir::Etc::sourcelist="$out/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State="$out" -o Dir::State::lists="$out/lists" -o Dir::State::status="$out/status" \
        -o Dir::Cache="$out" -o Dir::Cache::archives="$out/archives" \
        -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Sandbox::User=root \
        -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}
apt update
apt -t trixie-backports install --download-only --no-install-recommends suricata
for package in "$out"/archives/*.deb; do
    dpkg-deb -x "$package" "$out/root"
done
rm -rf "$out/archives" "$out/lists" "$out"/*.bin
echo "tools are in $out"
