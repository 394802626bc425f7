#!/bin/sh
# Fetches what the tests in this folder give our logs to, into target/interop: systemd of the image's
# base (unpacked, never installed), Keylime's verifier in a Python environment, and libefivar, which
# Keylime's parser loads. Needs an image that was built once (for the base's package lists).
set -eu
cd "$(dirname "$0")/../.."
base=$PWD/target/base/debian-13-amd64
out=$PWD/target/interop
debian=$out/debian
mkdir -p "$debian/archives/partial" "$debian/root" "$out/efivar/root"

apt-get -y -q \
    -o Dir::Etc::sourcelist="$base/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State="$base" -o Dir::State::lists="$base/lists" -o Dir::State::status="$base/status" \
    -o Dir::Cache="$debian" -o Dir::Cache::archives="$debian/archives" \
    -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Sandbox::User=root \
    install --download-only --no-install-recommends \
    systemd libtss2-esys-3.0.2-0t64 libtss2-mu-4.0.1-0t64 libtss2-rc0t64
for package in "$debian"/archives/*.deb; do
    dpkg-deb -x "$package" "$debian/root"
done

python3 -m venv "$out/keylime-venv"
"$out/keylime-venv/bin/pip" install -q keylime packaging pyyaml lark typing-extensions \
    cryptography pyasn1 pyasn1-modules requests tornado jinja2 sqlalchemy jsonschema psutil

(cd "$out/efivar" && apt-get -q download libefivar1)
for package in "$out"/efivar/*.deb; do
    dpkg-deb -x "$package" "$out/efivar/root"
done
echo "tools are in $out"
