#!/usr/bin/env bash
# Drains in a row under mixed load: the clients' own account against the server's ledger.
#
#   scripts/drain.sh [N=100]
#
# Each run starts a server, lets clients of a process of their own load it (see `drain_clients run
# --help` for the kinds), sends SIGTERM at a random moment, waits for both, and compares: nothing
# lost, nothing reset, no breach of the protocol, the ledger balanced and equal to what clients saw.
# Environment: WORKERS=2 SCALE=1 MIX="stubborn=4,..." SEED=... and every TIDEGATE_ setting.
# KEEP=DIR keeps account and audit log of runs that fail.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

runs=${1:-100}
[[ $runs =~ ^[1-9][0-9]*$ ]] || fail "N is a number from 1, not '$runs'"
RANDOM=$((${SEED:-$$} % 32768))
# Short phases. Heartbeats come often, and nobody is late: what stops half way is met by the drain.
export TIDEGATE_WORKERS=${WORKERS:-2}
export TIDEGATE_CPUS=${TIDEGATE_CPUS:-off}
export TIDEGATE_DRAIN_NOTICE_MS=${TIDEGATE_DRAIN_NOTICE_MS:-300}
export TIDEGATE_DRAIN_TIMEOUT_MS=${TIDEGATE_DRAIN_TIMEOUT_MS:-15000}
export TIDEGATE_LINGER_MS=${TIDEGATE_LINGER_MS:-2000}
export TIDEGATE_HEARTBEAT_MS=${TIDEGATE_HEARTBEAT_MS:-200}
export TIDEGATE_HEARTBEAT_MISSES=${TIDEGATE_HEARTBEAT_MISSES:-200}
export TIDEGATE_AUTH_TIMEOUT_MS=${TIDEGATE_AUTH_TIMEOUT_MS:-60000}
export TIDEGATE_FRAME_TIMEOUT_MS=${TIDEGATE_FRAME_TIMEOUT_MS:-60000}

build

# run NUMBER: one drain. Prints its line; returns whether all is well.
run() {
  local number=$1 lines=$((RANDOM % 150)) said=() code=0 expected=0 clients=0 judged=0 server out_server
  rm -rf "$work/data"
  start_tidegate "$work/data"
  server=$pid out_server=$out
  # What the server says until its end is read by nobody else.
  start clients "$peers/drain_clients" run "$address" --seed "$((RANDOM * 32768 + RANDOM))" \
    --scale "${SCALE:-1}" ${MIX:+--mix "$MIX"}
  local load=$pid
  [[ $line == flowing ]] || lines=0
  while ((lines > 0)) && IFS= read -r -u "$out" line && [[ $line != \{* ]]; do
    lines=$((lines - 1))
  done
  kill -TERM "$server"
  while [[ $line != \{* ]] && IFS= read -r -u "$out" line; do :; done
  printf '%s\n' "$line" >"$work/account.json"
  wait "$load" || clients=$?
  ended "$load"
  wait "$server" || code=$?
  ended "$server"
  cat <&"$out_server" >"$work/server.out"
  exec {out_server}<&- {out}<&-
  result=$("$peers/drain_clients" judge "$work/account.json" "$work/data/audit.jsonl" 2>"$work/against") || judged=$?
  # Who never reads can't be served: then, and only then, something is cut.
  [[ ,${MIX:-} =~ ,deaf=[1-9] ]] && expected=3
  if ((code != expected)); then said+=("the server's exit code is $code"); fi
  if ((clients > 1)); then said+=("the clients' exit code is $clients"); fi
  if ((judged > 1)); then said+=("there is nothing to judge"); fi
  printf '%4d  %s\n' "$number" "${result:-no result} exit=$code"
  printf '%s\n' "${result:-}" >>"$work/results"
  if ((judged != 0)) || ((${#said[@]} > 0)); then
    cat "$work/against" "$work/clients.err" "$work/tidegate.err" >&2
    ((${#said[@]} == 0)) || printf '  %s\n' "${said[@]}" >&2
    if [[ -n ${KEEP:-} ]]; then
      mkdir -p "$KEEP"
      cp "$work/account.json" "$KEEP/$number.account.json"
      cp "$work/data/audit.jsonl" "$KEEP/$number.audit.jsonl"
    fi
    return 1
  fi
}

failed=0
for ((number = 1; number <= runs; number++)); do
  run "$number" || failed=$((failed + 1))
done

# total NAME: the sum over all runs.
total() {
  awk -v name="$1" '
    { for (i = 1; i <= NF; i++) if (split($i, part, "=") == 2 && part[1] == name) sum += part[2] }
    END { printf "%d\n", sum }' "$work/results"
}
# each NAME: one value a line.
each() {
  grep -o "\b$1=[^ ]*" "$work/results" | cut -d= -f2
}
each drain_ms >"$work/drains"
echo
printf '%-28s %s\n' 'drains' "$runs" 'connections' "$(total connections)" 'requests sent' "$(total sent)" \
  'answered' "$(total answered)" 'safe to retry' "$(total safe)" 'lost' "$(total lost)" \
  'closed by reset' "$(total resets)" 'cut by the server' "$(total cut)" \
  'ledger balanced' "$(grep -c 'balanced=yes' "$work/results" || true)/$runs" \
  'drain time median' "$(of_numbers median "$work/drains") ms" 'drain time max' "$(of_numbers most "$work/drains") ms"
echo
if ((failed)); then
  echo "FAILED: $failed of $runs drains"
  exit 1
fi
echo "PASSED: $runs drains, nothing lost"
