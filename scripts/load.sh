#!/usr/bin/env bash
# A first load test: how fast a server lets people in, how soon it answers when it has time, how much it
# answers when it has none, and how soon at half of that. With a report for each.
#
#   scripts/load.sh                 a server of its own, restarted in the middle of the last step
#   scripts/load.sh HOST:PORT       yours, left alone; its token in TIDEGATE_TOKEN or TIDEGATE_TOKEN_FILE
#
# Fails where a request is lost, wrong or unknown, and with its own server where the ledgers differ from
# the clients' account. On one machine the load takes CPUs from the server: the figures are a beginning.
# Environment: REPORTS=target/load (a page, a table and JSON for each step), SECONDS_EACH=10,
# CONNECTIONS=1000, DEPTH=16, PAYLOAD=32, STORM=20000, MOST=50000 (requests a second in the last step: more
# than one generator beside a server on few CPUs keeps to the clock).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

reports=${REPORTS:-$root/target/load}
seconds_each=${SECONDS_EACH:-10}
connections=${CONNECTIONS:-1000}
depth=${DEPTH:-16}
payload=${PAYLOAD:-32}
storm=${STORM:-20000}
(($# <= 1)) || fail "one address is wanted, or none"
[[ $seconds_each =~ ^[1-9][0-9]*$ ]] || fail "SECONDS_EACH is a number from 1, not '$seconds_each'"

build_tidegate
mkdir -p "$reports"
ours=0
if (($# == 1)); then
  address=$1
else
  ours=1
  start_tidegate "$work/data"
fi
failed=()

# step NAME WHAT ARGUMENTS...: one run of the generator; its JSON is in $json.
step() {
  local name=$1 what=$2 code=0
  shift 2
  json=$reports/$name.json
  printf '== %s\n' "$what"
  "$tidegate" load "$@" --connect "$address" --quiet --json "$json" --html "$reports/$name.html" \
    >"$reports/$name.txt" 2>"$work/load.err" || code=$?
  # The figures, what stands against them, and the last paragraph, which is the verdict.
  sed -n -e '/^rate /p' -e '/^latency /p' -e '/^  requests .*s/p' -e '/^  connect .*s/p' "$reports/$name.txt"
  awk 'BEGIN { RS = "" } /^  ! / { print } { last = $0 } END { print last }' "$reports/$name.txt"
  if ((code != 0)); then
    cat "$work/load.err" >&2
    failed+=("$what")
  fi
  printf '\n'
}

# said WORD FILE: waits until the generator says it.
said() {
  local tries
  for ((tries = 0; tries < 10 * (seconds_each + 120); tries++)); do
    ! grep -q "^$1" "$2" 2>/dev/null || return 0
    sleep 0.1
  done
  return 1
}

# restart PID FILE: ends this server in the middle of the run that FILE is the output of, starts another
# in its place, and ends that when the run has settled.
restart() {
  local first=$1
  started=()
  trap clean_up EXIT
  keep_work=yes
  said connected "$2"
  sleep "$((seconds_each / 2))"
  kill -TERM "$first"
  until ! kill -0 "$first" 2>/dev/null; do sleep 0.05; done
  listen=$address start_tidegate "$work/second"
  said settled "$2"
  kill -TERM "$pid"
  wait "$pid"
  ended "$pid"
}

rate_of() { grep -oE '"rate": *[0-9.]+' "$1" | head -1 | grep -oE '[0-9.]+$'; }

printf 'load on %s, reports in %s\n\n' "$address" "${reports#"$PWD"/}"
step 1-connect "$storm connections: connect, AUTH, BYE" connect --connections 64 --total "$storm"
step 2-idle "one request at a time on each of 64 connections" \
  echo --connections 64 --payload "$payload" --duration "$seconds_each"
step 3-full "$depth at a time on each of $connections connections" \
  echo --connections "$connections" --depth "$depth" --payload "$payload" --duration "$seconds_each"
half=$(awk -v rate="$(rate_of "$json")" 'BEGIN { printf "%.0f", (rate / 2 > 1 ? rate / 2 : 1) }')
((half <= ${MOST:-50000})) || half=${MOST:-50000}

rated=(rate --connections "$connections" --rate "$half" --payload "$payload" --duration "$seconds_each")
if ((!ours)); then
  step 4-half "$half requests a second, by the clock" "${rated[@]}"
else
  stop "$pid"
  # A ledger each: theirs together is to be the clients' account.
  listen=$address start_tidegate "$work/first"
  first=$pid
  rm -f "$reports/4-half.txt"
  restart "$first" "$reports/4-half.txt" &
  restarter=$!
  started+=("$restarter")
  step 4-half "$half requests a second, by the clock, and a restart in the middle" "${rated[@]}" --control \
    --ledger "$work/first/audit.jsonl" --ledger "$work/second/audit.jsonl"
  # A run that did not come to its end needs no further server, and neither waits for the other.
  grep -q '^settled$' "$reports/4-half.txt" || kill -TERM "$restarter" "$first" 2>/dev/null || true
  wait "$first" || failed+=('the first server did not end well')
  wait "$restarter" || failed+=('the second server did not end well')
  ended "$first"
  ended "$restarter"
  sed -i -e '/^connected /d' -e '/^settled$/d' "$reports/4-half.txt"
fi

if ((${#failed[@]})); then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
printf 'PASSED: nothing was lost; look at %s\n' "${reports#"$PWD"/}/4-half.html"
