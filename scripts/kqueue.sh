#!/usr/bin/env bash
# Type-checks the core for systems with kqueue, where it can't be run here: FreeBSD and macOS. Warnings are errors.
#
# The standard library of a target that has no prebuilt one is checked along with it. That takes its
# source, which Debian packages beside a compiler and a cargo of the same version; a minute for each
# target the first time, in a target directory of its own, and a second afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(rustc-web cargo-web rust-web-src)
if ! dpkg-query --show "${packages[@]}" > /dev/null 2>&1; then
  if ! command -v apt-get > /dev/null; then
    echo "kqueue.sh: ${packages[*]} are Debian's, and this is no Debian: the check for kqueue is left out" >&2
    exit 0
  fi
  echo "installing ${packages[*]}"
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${packages[@]}" > /dev/null
fi

# Debian's, whatever else is on the PATH: another compiler has no use for this source.
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
for target in x86_64-unknown-freebsd x86_64-apple-darwin; do
  echo "the core on $target"
  /usr/bin/cargo rustc --quiet --locked --profile check --lib --no-default-features \
    -Z build-std=std,panic_abort --target "$target" --target-dir target/kqueue -- -D warnings
done
