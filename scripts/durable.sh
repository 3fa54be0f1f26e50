#!/usr/bin/env bash
# What is on the disk before it is answered: beside what the disk does, and beside other servers.
#
#   scripts/durable.sh [ROUNDS=5]
#
# batch    SUBMIT on CONNECTIONS connections, DEPTH in flight on each, beside one thread that appends as many
#          bytes as one of tidegate's commits has and calls fdatasync, and stores as many messages each time.
# one      One client, one request in flight, beside the same thread with the bytes of one message: as shipped, and
#          with TIDEGATE_CORE_BUSY_POLL_US and TIDEGATE_JOURNAL_BUSY_POLL_US.
# slow     As batch, where every fdatasync of both takes SYNC_US longer: most disks are slower than the CPUs, and then it
#          is the journal's part that they always have something to do.
# echo     p99 of ECHO at PROBE a second on a worker that takes SUBMIT as fast as the disk does, beside the same
#          worker with as many ECHOs a second in place of the SUBMITs.
# restart  From exec to /readyz 200 with PENDING messages that wait for a sink that is down, after a kill and after
#          a drain; memory then, and with BIG times as many.
# peers    A table beside redis-server (appendfsync always) and nats-server JetStream (sync always), which do the
#          same work: replies, CPU, latency. One worker, one client; all servers up, one measured at a time.
#
# Rounds are interleaved, ratios are of medians and of best rounds. The floor's file grows (as a plain log's), and,
# measured apart, is allocated beforehand (as a journal's segment); the budget is for the faster of the two.
# Environment: MEASURE="batch slow one echo restart peers" CONNECTIONS=64 DEPTH=16 PAYLOAD=200 SECONDS_EACH=1
# SYNC_US=2000 BUSY_POLL_US=2000 PROBE=1000 PENDING=1000000 BIG=10 (0: not measured)
# PEERS="tidegate tidegate-polling redis-xadd redis-set nats" CASES="1x1 64x1 64x16"
# SERVER_CPU=0 CLIENT_CPU=1 DISK=DIR (where all files are made), and budgets: BUDGET_DURABLE=0.9 (of the rate, at least)
# BUDGET_ECHO=1.1 BUDGET_RESTART_MS=3000 BUDGET_MEMORY_MIB=64 (more than with few, at most).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source-path=SCRIPTDIR source=servers.sh
source "$root/scripts/servers.sh"

rounds=${1:-5}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "ROUNDS is a number from 1, not '$rounds'"
connections=${CONNECTIONS:-64}
depth=${DEPTH:-16}
payload=${PAYLOAD:-200}
seconds_each=${SECONDS_EACH:-1}
server_cpu=${SERVER_CPU:-0}
client_cpu=${CLIENT_CPU:-1}
at_least=${BUDGET_DURABLE:-0.9}
read -ra what <<<"${MEASURE:-batch slow one echo restart peers}"
read -ra names <<<"${PEERS:-tidegate tidegate-polling redis-xadd redis-set nats}"
read -ra cases <<<"${CASES:-1x1 64x1 64x16}"
if [[ -n ${DISK:-} ]]; then
  rm -rf "$work"
  work=$(mktemp -d "$DISK/durable.XXXXXX")
fi

export TIDEGATE_WORKERS=1 TIDEGATE_CPUS=$server_cpu TIDEGATE_DRAIN_NOTICE_MS=0 TIDEGATE_HEARTBEAT_MS=3600000
export TIDEGATE_MAX_IN_FLIGHT=${TIDEGATE_MAX_IN_FLIGHT:-1024}
# What is measured must not fill the disk.
export TIDEGATE_JOURNAL_RETAIN_BYTES=${TIDEGATE_JOURNAL_RETAIN_BYTES:-1073741824}
listen_admin=127.0.0.1:0
verdict=0

progress() {
  [[ ! -t 2 ]] || printf '\r\033[K%s' "$*" >&2
}

# metric NAME: its value in the server's /metrics, all its series added up.
metric() {
  curl -sf "http://$admin/metrics" | awk -v name="$1" '
    { split($1, part, "{") } part[1] == name { sum += $2; seen = 1 } END { if (!seen) exit 1; printf "%.0f\n", sum }' ||
    fail "no $1 in /metrics"
}

# journal_now: what the journal has done until now, in $stored, $syncs and $written.
journal_now() {
  stored=$(metric tidegate_journal_messages_total)
  syncs=$(metric tidegate_journal_sync_seconds_count)
  written=$(metric tidegate_journal_written_bytes_total)
}

# client NAME OPTIONS...: a load of $address, with a name to ask it by.
declare -A client=() asks=() answers=()
client() {
  local name=$1 input ask
  shift
  rm -f "$work/asks"
  mkfifo "$work/asks"
  exec {ask}<>"$work/asks"
  input=$work/asks start "client-$name" "$peers/durable" load "$address" --cpu "$client_cpu" "$@"
  [[ $line == ready ]] || fail "client $name: $line"
  client[$name]=$pid asks[$name]=$ask answers[$name]=$out
}

# begin NAME DEPTH PAYLOAD SECONDS RATE, and end_of NAME: one measurement; its line is in $line.
begin() {
  echo "$2 $3 $4 $5" >&"${asks[$1]}"
}
end_of() {
  IFS= read -r -t 120 line <&"${answers[$1]}" || fail "client $1: $(<"$work/client-$1.err")"
}
measure() {
  begin "$@"
  end_of "$1"
}
leave() {
  local name
  for name in "$@"; do
    stop "${client[$name]}"
    unset "client[$name]"
  done
}

# floor KIND BYTES: syncs per second, in $rate.
floor() {
  line=$("$peers/durable" floor "$work" --kind "$1" --bytes "$2" --seconds "$seconds_each")
  rate=$(field rate "$line")
}

head_of() {
  printf '%-46s %11s %11s %11s %11s %8s %7s\n' "$1" "$2 median" best 'tidegate' best ratio best
}

# say LABEL FILE-OF-FLOOR FILE-OF-OURS: medians, mosts and ratios, in $rm and $rb.
say() {
  local am ab bm bb
  am=$(of_numbers median "$work/$2") ab=$(of_numbers most "$work/$2")
  bm=$(of_numbers median "$work/$3") bb=$(of_numbers most "$work/$3")
  rm=$(ratio "$bm" "$am") rb=$(ratio "$bb" "$ab")
  printf '%-46s %11.1f %11.1f %11.1f %11.1f %8s %7s' "$1" "$am" "$ab" "$bm" "$bb" "$rm" "$rb"
}

# judge WHETHER WORDS...
judge() {
  local good=$1
  shift
  if ((good)); then printf '  within %s\n' "$*"; else printf '  OUTSIDE %s\n' "$*"; verdict=1; fi
}

# beside_floor NAME CONNECTIONS DEPTH WORDS: SUBMITs against bare appends of the same bytes.
beside_floor() {
  local name=$1 round kind fits before_stored before_syncs before_written bytes batch
  start_tidegate "$work/data.$name"
  local server=$pid
  client "$name" --pid "$server" --connections "$2"
  # The first round finds out how large a batch is.
  for ((round = 0; round <= rounds; round++)); do
    progress "$name, round $round of $rounds"
    journal_now
    before_stored=$stored before_syncs=$syncs before_written=$written
    measure "$name" "$3" "$payload" "$seconds_each" 0
    journal_now
    ((syncs > before_syncs)) || fail 'tidegate has synced nothing'
    batch=$(awk -v a="$((stored - before_stored))" -v b="$((syncs - before_syncs))" 'BEGIN { print a / b }')
    bytes=$(((written - before_written) / (syncs - before_syncs)))
    ((round > 0)) || continue
    field rate "$line" >>"$work/$name.ours"
    field p50_us "$line" >>"$work/$name.p50"
    field p99_us "$line" >>"$work/$name.p99"
    echo "$batch" >>"$work/$name.batch"
    echo "$bytes" >>"$work/$name.bytes"
    for kind in growing allocated; do
      floor "$kind" "$bytes"
      awk -v r="$rate" -v b="$batch" 'BEGIN { print r * b }' >>"$work/$name.$kind"
    done
  done
  progress ''
  leave "$name"
  stop "$server"
  printf 'SUBMIT, %s\n' "$4"
  head_of "$2 connections, depth $3, $payload B" floor
  for kind in growing allocated; do
    say "replies/s beside a file that is $kind" "$name.$kind" "$name.ours"
    fits=0
    if at_most "$at_least" "$rm" && at_most "$at_least" "$rb"; then fits=1; fi
    judge "$fits" "$at_least"
  done
  printf 'a commit: %.1f messages, %.0f bytes; reply p50 %.0f us, p99 %.0f us\n\n' "$(of_numbers median "$work/$name.batch")" \
    "$(of_numbers median "$work/$name.bytes")" "$(of_numbers median "$work/$name.p50")" "$(of_numbers median "$work/$name.p99")"
}

# slowly COMMAND...: with every fdatasync of what it starts SYNC_US longer.
slowly() {
  "${CC:-cc}" -O2 -shared -fPIC -o "$work/slow_disk.so" "$root/benches/peers/c/slow_disk.c" || fail 'slow_disk.c does not build'
  local -x LD_PRELOAD=$work/slow_disk.so SLOW_DISK_US=${SYNC_US:-2000}
  "$@"
}

# polling COMMAND...: with a server in it that polls instead of sleeping.
polling() {
  local -x TIDEGATE_CORE_BUSY_POLL_US=${BUSY_POLL_US:-2000} TIDEGATE_JOURNAL_BUSY_POLL_US=${BUSY_POLL_US:-2000}
  "$@"
}

# echoes: p99 of a few echoes while others submit, or echo just as often.
echoes() {
  local round submitted probe=${PROBE:-1000} fits=0
  start_tidegate "$work/data.echo"
  local server=$pid
  client submit --pid "$server" --connections "$connections"
  client plain --pid "$server" --speak echo --connections "$connections"
  client probe --pid "$server" --speak echo --connections 4
  for ((round = 0; round <= rounds; round++)); do
    progress "echo beside SUBMIT, round $round of $rounds"
    begin submit "$depth" "$payload" "$seconds_each" 0
    begin probe 1 32 "$seconds_each" "$probe"
    end_of probe
    ((round == 0)) || field p99_us "$line" >>"$work/echo.durable"
    ((round == 0)) || field p50_us "$line" >>"$work/echo.durable.p50"
    end_of submit
    submitted=$(field rate "$line")
    ((round == 0)) || echo "$submitted" >>"$work/echo.rate"
    begin plain "$depth" "$payload" "$seconds_each" "$submitted"
    begin probe 1 32 "$seconds_each" "$probe"
    end_of probe
    ((round == 0)) || field p99_us "$line" >>"$work/echo.plain"
    ((round == 0)) || field p50_us "$line" >>"$work/echo.plain.p50"
    end_of plain
    measure probe 1 32 "$seconds_each" "$probe"
    ((round == 0)) || field p99_us "$line" >>"$work/echo.alone"
  done
  progress ''
  leave submit plain probe
  stop "$server"
  printf 'ECHO at %s/s on a worker that takes %.0f SUBMITs/s, beside as many ECHOs/s\n' "$probe" "$(of_numbers median "$work/echo.rate")"
  printf '%-46s p99 %.0f us with nothing else\n' '' "$(of_numbers median "$work/echo.alone")"
  printf '%-46s p50 %.0f us beside ECHO, %.0f us beside SUBMIT\n' '' "$(of_numbers median "$work/echo.plain.p50")" \
    "$(of_numbers median "$work/echo.durable.p50")"
  rm=$(ratio "$(of_numbers median "$work/echo.durable")" "$(of_numbers median "$work/echo.plain")")
  rb=$(ratio "$(of_numbers best "$work/echo.durable")" "$(of_numbers best "$work/echo.plain")")
  printf '%-46s p99 %.0f us beside ECHO, %.0f us beside SUBMIT: %s, best rounds %s' '' "$(of_numbers median "$work/echo.plain")" \
    "$(of_numbers median "$work/echo.durable")" "$rm" "$rb"
  if at_most "$rm" "${BUDGET_ECHO:-1.1}" && at_most "$rb" "${BUDGET_ECHO:-1.1}"; then fits=1; fi
  judge "$fits" "${BUDGET_ECHO:-1.1}"
  printf '\n'
}

# fill NAME COUNT: a journal of so many messages that go nowhere, left by a drain; $took seconds.
fill() {
  local server count=$2 have=0
  start_tidegate "$work/data.$1"
  server=$pid
  client fill --pid "$server" --connections 64
  while ((have < count)); do
    progress "filling the journal: $have of $count"
    measure fill 64 "$payload" 1 0
    have=$(metric tidegate_journal_messages_total)
  done
  leave fill
  stop "$server"
  progress ''
  echo "$have" >"$work/$1.count"
}

# again NAME OPTIONS...: starts the server on that journal; its line is in $line.
again() {
  local name=$1
  shift
  line=$(TIDEGATE_DATA_DIR=$work/data.$name "$peers/durable" restart "$tidegate" "$work/restart.log" "$@") ||
    fail "$(tail -3 "$work/restart.log")"
}

restarts() {
  local round pending=${PENDING:-1000000} big=${BIG:-10} few many how fits
  # Nothing takes them, and nobody asks often.
  export TIDEGATE_SINKS='*=exec:false' TIDEGATE_SINK_BACKOFF_MS=600000 TIDEGATE_SINK_BACKOFF_MAX_MS=600000
  fill few "$pending"
  for ((round = 1; round <= rounds; round++)); do
    progress "restart, round $round of $rounds"
    again few --kill
    field ready_ms "$line" >>"$work/few.drained"
    again few
    field ready_ms "$line" >>"$work/few.killed"
    field rss_later "$line" >>"$work/few.rss"
  done
  progress ''
  few=$(of_numbers most "$work/few.rss")
  printf 'restart with %s messages pending, %s\n' "$(<"$work/few.count")" "$(du -sh "$work/data.few/journal" | cut -f1)"
  for how in killed drained; do
    printf '%-46s %.0f ms median, %.0f ms most' "  exec to ready, $how before" "$(of_numbers median "$work/few.$how")" "$(of_numbers most "$work/few.$how")"
    fits=0
    if at_most "$(of_numbers median "$work/few.$how")" "${BUDGET_RESTART_MS:-3000}"; then fits=1; fi
    judge "$fits" "${BUDGET_RESTART_MS:-3000} ms"
  done
  printf '%-46s %.1f MiB\n' '  memory then (RSS)' "$(awk -v b="$few" 'BEGIN { print b / 1048576 }')"
  rm -rf "$work/data.few"
  if ((big > 0)); then
    fill many "$((pending * big))"
    again many
    many=$(field rss_later "$line")
    printf '%-46s %.1f MiB, ready after %.0f ms' "  memory with $(<"$work/many.count") ($(du -sh "$work/data.many/journal" | cut -f1))" \
      "$(awk -v b="$many" 'BEGIN { print b / 1048576 }')" "$(field ready_ms "$line")"
    fits=0
    if at_most "$((many - few))" "$((${BUDGET_MEMORY_MIB:-64} * 1048576))"; then fits=1; fi
    judge "$fits" "${BUDGET_MEMORY_MIB:-64} MiB more"
    rm -rf "$work/data.many"
  fi
  unset TIDEGATE_SINKS TIDEGATE_SINK_BACKOFF_MS TIDEGATE_SINK_BACKOFF_MAX_MS
  printf '\n'
}

# start_peer NAME: its server, in $address and $pid.
start_peer() {
  local try
  case $1 in
    tidegate) start_tidegate "$work/data.$1" && return ;;
    tidegate-polling) polling start_tidegate "$work/data.$1" && return ;;
    redis-*) redis_server ;;
    nats) nats_server ;;
    *) fail "PEERS: there is no '$1'" ;;
  esac
  # On all CPUs, as tidegate's journal is: its worker alone is pinned.
  sh -c "exec $command" >"$work/$1.out" 2>&1 </dev/null &
  pid=$!
  started+=("$pid")
  for ((try = 0; try < 100; try++)); do
    if (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null || ! kill -0 "$pid" 2>/dev/null; then break; fi
    sleep 0.1
  done
  address=127.0.0.1:$port
}

beside_others() {
  local name round each count deep by order column
  declare -A server=() speaks=([tidegate]=submit [tidegate-polling]=submit [redis-xadd]=xadd [redis-set]=set [nats]=jetstream)
  for name in "${names[@]}"; do
    start_peer "$name"
    server[$name]=$pid
    for each in "${cases[@]}"; do
      client "$name-$each" --pid "${server[$name]}" --speak "${speaks[$name]}" --connections "${each%x*}"
    done
  done
  for ((round = 0; round <= rounds; round++)); do
    by=$((round % ${#names[@]}))
    order=("${names[@]:by}" "${names[@]:0:by}")
    for each in "${cases[@]}"; do
      deep=${each#*x}
      for name in "${order[@]}"; do
        progress "round $round of $rounds: $each, $name"
        measure "$name-$each" "$deep" "$payload" "$seconds_each" 0
        ((round > 0)) || continue
        for column in rate server_ns_per_reply p50_us p99_us; do
          field "$column" "$line" >>"$work/peer.$name.$each.$column"
        done
      done
    done
  done
  progress ''
  for name in "${names[@]}"; do
    for each in "${cases[@]}"; do leave "$name-$each"; done
    stop "${server[$name]}"
  done
  for each in "${cases[@]}"; do
    count=${each%x*} deep=${each#*x}
    printf 'durable replies: %s connections, depth %s, %s B\n' "$count" "$deep" "$payload"
    printf '%-18s %12s %12s %10s %14s %10s %10s\n' '' 'replies/s' best 'to ours' 'CPU us each' 'p50 us' 'p99 us'
    for name in "${names[@]}"; do
      local file=$work/peer.$name.$each
      printf '%-18s %12.0f %12.0f %10s %14.2f %10.0f %10.0f\n' "$name" "$(of_numbers median "$file.rate")" "$(of_numbers most "$file.rate")" \
        "$(ratio "$(of_numbers median "$file.rate")" "$(of_numbers median "$work/peer.${names[0]}.$each.rate")")" \
        "$(of_numbers median "$file.server_ns_per_reply" | awk '{ print $1 / 1000 }')" \
        "$(of_numbers median "$file.p50_us")" "$(of_numbers median "$file.p99_us")"
    done
    printf '\n'
  done
}

have curl curl
build
for each in "${what[@]}"; do
  case $each in
    batch) beside_floor batch "$connections" "$depth" 'many at once' ;;
    slow) slowly beside_floor slow "$connections" "$depth" "many at once, and each fdatasync takes ${SYNC_US:-2000} us longer" ;;
    one)
      beside_floor one 1 1 'one after the other'
      polling beside_floor one-polling 1 1 "one after the other, and the server polls (…_BUSY_POLL_US=${BUSY_POLL_US:-2000})"
      ;;
    echo) echoes ;;
    restart) restarts ;;
    peers) beside_others ;;
    *) fail "MEASURE: there is no '$each'" ;;
  esac
done
if ((verdict)); then
  echo 'FAILED: outside a budget'
else
  echo 'PASSED: everything within its budget'
fi
exit "$verdict"
