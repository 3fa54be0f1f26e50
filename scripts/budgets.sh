#!/usr/bin/env bash
# What very many connections cost beside the least that they need: heartbeats, idle neighbours, and
# the end of all of them.
#
#   scripts/budgets.sh [ROUNDS=5]
#
# heartbeats  server CPU per PING sent and PONG read, beside a bare loop that writes and reads the
#             same 9 bytes. Connections are made evenly over the interval; both servers send what has
#             become due every BATCH_MS together (tidegate's timers: 10 ms, and 1 ms more for each
#             4,096 connections), and a spinning client answers each at once.
# idle        rate and server CPU of ACTIVE connections with MANY idle ones held, and with FEW.
# drain       server CPU from SIGTERM to its exit, all of it, with clients that read to EOF and
#             close, beside a bare loop that writes a GOAWAY's 24 bytes to each, closes it and exits.
#
# Environment: MEASURE="heartbeats idle drain" N=15000 INTERVAL_MS=2000 BATCH_MS=13 ACTIVE=64 FEW=100
# MANY=15000 DEPTHS="1 16" SECONDS_EACH=1 SERVER_CPU=0 CLIENT_CPU=1, and the budgets BUDGET_HEARTBEATS=1.2
# BUDGET_IDLE=0.9 (of the rate, at least) BUDGET_DRAIN=1.25: it fails where the ratio of the medians,
# or that of the best rounds, is not within.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# The floor keeps nothing, and sessions are in memory here, too; "embedded" measures with those that are kept.
export TIDEGATE_SESSION_STORE=${TIDEGATE_SESSION_STORE:-memory}

rounds=${1:-5}
n=${N:-15000}
interval=${INTERVAL_MS:-2000}
batch=${BATCH_MS:-$((10 + n / 4096))}
active=${ACTIVE:-64}
few=${FEW:-100}
many=${MANY:-15000}
server_cpu=${SERVER_CPU:-0}
client_cpu=${CLIENT_CPU:-1}
seconds_each=${SECONDS_EACH:-1}
read -ra depths <<<"${DEPTHS:-1 16}"
read -ra what <<<"${MEASURE:-heartbeats idle drain}"
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "ROUNDS is a number from 1, not '$rounds'"

export TIDEGATE_WORKERS=1 TIDEGATE_CPUS=$server_cpu TIDEGATE_DRAIN_NOTICE_MS=0
verdict=0

# in_turn ROUND A B: the two in $order, the other one first in every second round.
in_turn() {
  if (($1 % 2)); then order=("$2" "$3"); else order=("$3" "$2"); fi
}

progress() {
  [[ ! -t 2 ]] || printf '\r\033[K%s' "$*" >&2
}

# say LABEL A B FILE-OF-A FILE-OF-B BEST: medians, bests and ratios of B to A, in $rm and $rb.
say() {
  local am ab bm bb
  am=$(of_numbers median "$work/$4") ab=$(of_numbers "$6" "$work/$4")
  bm=$(of_numbers median "$work/$5") bb=$(of_numbers "$6" "$work/$5")
  rm=$(ratio "$bm" "$am") rb=$(ratio "$bb" "$ab")
  printf '%-40s %11.1f %11.1f %11.1f %11.1f %8s %7s' "$1" "$am" "$ab" "$bm" "$bb" "$rm" "$rb"
}

head_of() {
  printf '%-40s %23s %23s %16s\n' "$1" "$2" "$3" ratio
  printf '%-40s %11s %11s %11s %11s %8s %7s  %s\n' '' median best median best median best verdict
}

# judge BUDGET: of what `say` said, at most this.
judge() {
  if at_most "$rm" "$1" && at_most "$rb" "$1"; then
    printf '  within %s\n' "$1"
  else
    printf '  OVER %s\n' "$1"
    verdict=1
  fi
}

heartbeats() {
  local round name mode result seconds
  seconds=$(awk -v ms="$interval" 'BEGIN { print 2 * ms / 1000 }')
  for ((round = 1; round <= rounds; round++)); do
    in_turn "$round" floor tidegate
    for name in "${order[@]}"; do
      progress "heartbeats, round $round of $rounds: $name"
      if [[ $name == floor ]]; then
        mode=raw
        start floor "$peers/floor" --cpus "$server_cpu" --ping-every-ms "$interval" --ping-batch-ms "$batch"
        address=${line##* }
      else
        mode=mcp
        TIDEGATE_HEARTBEAT_MS=$interval start_tidegate "$work/data"
      fi
      result=$("$peers/echo_load" "$address" --mode "$mode" --pid "$pid" --cpu "$client_cpu" --connections "$n" \
        --spread-ms "$interval" --heartbeats --seconds "$seconds")
      stop "$pid"
      field server_ns_per_heartbeat "$result" >>"$work/beats.$name"
      field rate "$result" >>"$work/beats.$name.rate"
    done
  done
  progress ''
  head_of "$n heartbeats in $interval ms, by $batch ms" floor tidegate
  say 'CPU ns per heartbeat' floor tidegate beats.floor beats.tidegate best
  judge "${BUDGET_HEARTBEATS:-1.2}"
  say 'heartbeats per second' floor tidegate beats.floor.rate beats.tidegate.rate most
  printf '\n\n'
}

idle() {
  local round name depth input
  declare -A asks answers server client
  for name in few many; do
    progress "connections: $name"
    TIDEGATE_HEARTBEAT_MS=3600000 start_tidegate "$work/data.$name"
    server[$name]=$pid
    rm -f "$work/asks"
    mkfifo "$work/asks"
    exec {ask}<>"$work/asks"
    input=$work/asks start "client-$name" "$peers/echo_load" "$address" --pid "$pid" --cpu "$client_cpu" \
      --connections "$active" --idle "${!name}" --steps
    [[ $line == ready ]] || fail "no client: $line"
    client[$name]=$pid asks[$name]=$ask answers[$name]=$out
  done
  for ((round = 1; round <= rounds; round++)); do
    in_turn "$round" few many
    progress "idle neighbours, round $round of $rounds"
    for depth in "${depths[@]}"; do
      for name in "${order[@]}"; do
        echo "$depth 32 $seconds_each" >&"${asks[$name]}"
        IFS= read -r -t 60 line <&"${answers[$name]}" || fail "$(<"$work/client-$name.err")"
        field rate "$line" >>"$work/idle.$name.$depth.rate"
        field server_ns_per_frame "$line" >>"$work/idle.$name.$depth"
        field server_cpu "$line" | awk '{ print 100 * $1 }' >>"$work/idle.$name.$depth.busy"
      done
    done
  done
  progress ''
  for name in few many; do
    stop "${client[$name]}"
    stop "${server[$name]}"
  done
  head_of "idle neighbours, $active connections echo" "with $few idle" "with $many idle"
  for depth in "${depths[@]}"; do
    say "depth $depth, frames per second" few many "idle.few.$depth.rate" "idle.many.$depth.rate" most
    if at_most "${BUDGET_IDLE:-0.9}" "$rm" && at_most "${BUDGET_IDLE:-0.9}" "$rb"; then
      printf '  within %s\n' "${BUDGET_IDLE:-0.9}"
    else
      printf '  UNDER %s\n' "${BUDGET_IDLE:-0.9}"
      verdict=1
    fi
    say "depth $depth, CPU ns per frame" few many "idle.few.$depth" "idle.many.$depth" best
    printf '\n'
    say "depth $depth, % of its CPU used" few many "idle.few.$depth.busy" "idle.many.$depth.busy" most
    printf '\n'
    at_most 90 "$(of_numbers median "$work/idle.many.$depth.busy")" ||
      echo "  Other work ran on these CPUs (less than 90 % were used): a rate then says little."
  done
  printf '\n'
}

drains() {
  local round name mode result command
  for ((round = 1; round <= rounds; round++)); do
    in_turn "$round" floor tidegate
    for name in "${order[@]}"; do
      progress "drains, round $round of $rounds: $name"
      if [[ $name == floor ]]; then
        mode=raw command=("$peers/floor" --cpus "$server_cpu" --goodbye 24)
      else
        mode=mcp command=("$tidegate" serve)
      fi
      result=$(TIDEGATE_LISTEN=127.0.0.1:0 TIDEGATE_ADMIN=off TIDEGATE_LOG=warn \
        "$peers/drain_cost" --mode "$mode" --cpu "$client_cpu" --connections "$n" -- "${command[@]}")
      [[ $(field exit "$result") == 0 ]] || fail "$name did not end well: $result"
      [[ $(field resets "$result") == 0 ]] || fail "$name reset somebody: $result"
      field drain_ns_per_connection "$result" >>"$work/drain.$name"
      field closed_ms "$result" >>"$work/drain.$name.closed"
      field ended_ms "$result" >>"$work/drain.$name.ended"
    done
  done
  progress ''
  head_of "drain of $n connections" floor tidegate
  say 'CPU ns per connection' floor tidegate drain.floor drain.tidegate best
  judge "${BUDGET_DRAIN:-1.25}"
  say 'ms until the last client is closed' floor tidegate drain.floor.closed drain.tidegate.closed best
  printf '\n'
  say 'ms until the server has ended' floor tidegate drain.floor.ended drain.tidegate.ended best
  printf '\n\n'
}

build
for each in "${what[@]}"; do
  case $each in
    heartbeats) heartbeats ;;
    idle) idle ;;
    drain) drains ;;
    *) fail "MEASURE: there is no '$each'" ;;
  esac
done
if ((verdict)); then
  echo 'FAILED: over budget'
else
  echo 'PASSED: everything within its budget'
fi
exit "$verdict"
