#!/usr/bin/env bash
# What serving a frame, and a connection, costs beside a bare epoll loop: server CPU, as ratios.
#
#   scripts/floor.sh [ROUNDS=8]
#
# Rounds are interleaved, because a host drifts over minutes; the client spins on a CPU of its own.
# Environment: SERVER_CPU=0 CLIENT_CPU=1 CONNECTIONS=64 PAYLOAD=32 DEPTHS="1 16 64" SECONDS_EACH=1
# STORM=10000, and the budgets BUDGET_1=1.05 BUDGET_MORE=1.10 BUDGET_STORM=1.18: it fails where the
# ratio of the medians, or that of the best rounds, is above.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# The floor keeps nothing, and sessions are in memory here, too; "embedded" measures with those that are kept.
export TIDEGATE_SESSION_STORE=${TIDEGATE_SESSION_STORE:-memory}

rounds=${1:-8}
server_cpu=${SERVER_CPU:-0}
client_cpu=${CLIENT_CPU:-1}
connections=${CONNECTIONS:-64}
payload=${PAYLOAD:-32}
seconds_each=${SECONDS_EACH:-1}
storm=${STORM:-10000}
read -ra depths <<<"${DEPTHS:-1 16 64}"
# Above, clients bind source addresses, and a bound port is closed to every other client of this host
# while it is in TIME_WAIT.
((storm <= 18000)) || fail "STORM is at most 18000, not '$storm'"
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "ROUNDS is a number from 1, not '$rounds'"

build
# Sessions of a storm end soon, so that every round finds the same server.
TIDEGATE_WORKERS=1 TIDEGATE_CPUS=$server_cpu TIDEGATE_SESSION_TTL_S=${TIDEGATE_SESSION_TTL_S:-1} start_tidegate "$work/data"
tidegate_pid=$pid tidegate_address=$address
start floor "$peers/floor" --cpus "$server_cpu"
floor_pid=$pid floor_address=${line##* }

# measure NAME WHAT OPTIONS...: one round of one server; appends to $work/NAME.WHAT.
measure() {
  local name=$1 what=$2 unit=frame result target
  shift 2
  [[ $what == storm ]] && unit=connection
  if [[ $name == floor ]]; then
    target=("$floor_address" --mode raw --pid "$floor_pid")
  else
    target=("$tidegate_address" --mode mcp --pid "$tidegate_pid")
  fi
  result=$("$peers/echo_load" "${target[@]}" --cpu "$client_cpu" --connections "$connections" "$@")
  field "server_ns_per_$unit" "$result" >>"$work/$name.$what"
  field rate "$result" >>"$work/$name.$what.rate"
  field server_cpu "$result" >>"$work/$name.$what.busy"
}

for ((round = 1; round <= rounds; round++)); do
  [[ -t 2 ]] && printf '\rround %d of %d' "$round" "$rounds" >&2
  order=(floor tidegate)
  ((round % 2)) || order=(tidegate floor)
  for depth in "${depths[@]}"; do
    for name in "${order[@]}"; do
      measure "$name" "$depth" --depth "$depth" --payload "$payload" --seconds "$seconds_each"
    done
  done
  for name in "${order[@]}"; do
    measure "$name" storm --storm "$storm"
  done
done
[[ -t 2 ]] && printf '\r' >&2

printf 'server CPU, %s connections, %s B payload, %s rounds of %s s, one server thread on CPU %s\n\n' \
  "$connections" "$payload" "$rounds" "$seconds_each" "$server_cpu"
printf '%-22s %19s %19s %16s %13s %11s  %s\n' '' 'floor ns' 'tidegate ns' 'ratio' 'tidegate' 'CPU busy' ''
printf '%-22s %9s %9s %9s %9s %8s %7s %13s %5s %5s  %s\n' \
  'each' median best median best median best 'rate /s' floor tide verdict
quiet=1
verdict=0
for what in "${depths[@]}" storm; do
  case $what in
    storm) label='connection + AUTH' budget=${BUDGET_STORM:-1.18} ;;
    1) label='frame, depth 1' budget=${BUDGET_1:-1.05} ;;
    *) label="frame, depth $what" budget=${BUDGET_MORE:-1.10} ;;
  esac
  fm=$(of_numbers median "$work/floor.$what") fb=$(of_numbers best "$work/floor.$what")
  tm=$(of_numbers median "$work/tidegate.$what") tb=$(of_numbers best "$work/tidegate.$what")
  rm=$(ratio "$tm" "$fm") rb=$(ratio "$tb" "$fb")
  if at_most "$rm" "$budget" && at_most "$rb" "$budget"; then
    said="within $budget"
  else
    said="OVER $budget" verdict=1
  fi
  at_most 0.9 "$(of_numbers median "$work/floor.$what.busy")" || [[ $what == storm ]] || quiet=0
  printf '%-22s %9.1f %9.1f %9.1f %9.1f %8s %7s %13.0f %5.2f %5.2f  %s\n' "$label" "$fm" "$fb" "$tm" "$tb" "$rm" "$rb" \
    "$(of_numbers median "$work/tidegate.$what.rate")" "$(of_numbers median "$work/floor.$what.busy")" \
    "$(of_numbers median "$work/tidegate.$what.busy")" "$said"
done
((quiet)) || printf "\nOther work ran on these CPUs (a server was busy for less than 0.9 of the time): trust the best rounds.\n"
echo
if ((verdict)); then
  echo 'FAILED: over budget'
else
  echo 'PASSED: everything within its budget'
fi
exit "$verdict"
