#!/usr/bin/env bash
# User memory of one idle, authenticated connection: the slope of the server's memory between two
# numbers of connections, each with one echo done; and the same after traffic on all of them.
#
#   scripts/idle.sh [FEW=4000] [MANY=16000]
#
# Environment: BUDGET=96 (bytes; it fails above), TRAFFIC=640 (frames each), DEPTH=64.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# The floor keeps nothing, and sessions are in memory here, too; "embedded" measures with those that are kept.
export TIDEGATE_SESSION_STORE=${TIDEGATE_SESSION_STORE:-memory}

few=${1:-4000}
many=${2:-16000}
budget=${BUDGET:-96}
limit=$(ulimit -Hn)
if [[ ! $few =~ ^[1-9][0-9]*$ || ! $many =~ ^[1-9][0-9]*$ ]] || ((few >= many)); then
  fail "two numbers are wanted, FEW below MANY"
fi
[[ $limit == unlimited ]] || ((many + 100 <= limit)) || fail "$many connections need more than the $limit open files allowed"

build
printf 'user memory of one worker, %s and %s connections held\n\n' "$few" "$many"
printf '%-30s %14s %14s %18s %18s\n' '' "MiB at $few" "MiB at $many" 'bytes each (RSS)' 'bytes each (own)'
verdict=0
for kind in idle traffic; do
  # A server of its own for each slope: the second is not helped by the memory of the first.
  TIDEGATE_WORKERS=1 TIDEGATE_CPUS=off TIDEGATE_HEARTBEAT_MS=600000 start_tidegate "$work/data"
  if [[ $kind == idle ]]; then
    label='after one echo each' options=()
  else
    label="after ${TRAFFIC:-640} echoes each, depth ${DEPTH:-64}" options=(--traffic "${TRAFFIC:-640}" --depth "${DEPTH:-64}")
  fi
  result=$("$peers/echo_load" "$address" --pid "$pid" --hold "$few,$many" "${options[@]}")
  kill -TERM "$pid"
  wait "$pid" || fail "tidegate ended with $?"
  ended "$pid"
  each=$(field private_per_connection "$result")
  mib() { awk -v bytes="$(field "resident_$1" "$result")" 'BEGIN { printf "%.2f", bytes / 1048576 }'; }
  printf '%-30s %14s %14s %18s %18s\n' "$label" "$(mib "$few")" "$(mib "$many")" \
    "$(field resident_per_connection "$result")" "$each"
  at_most "$each" "$budget" || verdict=1
done
echo
if ((verdict)); then
  echo "FAILED: over $budget bytes"
else
  echo "PASSED: within $budget bytes"
fi
exit "$verdict"
