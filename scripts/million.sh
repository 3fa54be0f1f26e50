#!/usr/bin/env bash
# A million connections, both ends on this host: connected, authenticated, heartbeating, echoed to, and
# let go by SIGTERM, with the ledgers beside the clients' account.
#
#   scripts/million.sh [N=1000000]
#
# It runs in a network namespace of its own and leaves nothing behind. Where the limit of open files is
# below N, as many server processes as it asks for share one port (SO_REUSEPORT); else there is one. N
# connections need about 8.5 kB each, both ends together, most of it the kernel's.
# Environment: HEARTBEAT_MS=30000, HOLD_S=60 (how long heartbeats are measured), LIMIT=open files of one
# process (for a trial of the many processes), BUDGET=96 (the servers' bytes for each connection; it
# fails above), DRAIN_S=30 (what the drain takes of the servers' own time, on all CPUs; it fails above:
# the clients have the same CPUs, and need as much of them), REPORT=FILE.html of the load generator.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Sessions that are kept on the disk cost more: TIDEGATE_SESSION_STORE=embedded measures them.
export TIDEGATE_SESSION_STORE=${TIDEGATE_SESSION_STORE:-memory}

n=${1:-1000000}
heartbeat_ms=${HEARTBEAT_MS:-30000}
hold_s=${HOLD_S:-60}
drain_s=${DRAIN_S:-30}
budget=${BUDGET:-96}
[[ $n =~ ^[1-9][0-9]*$ ]] || fail "N is a number from 1, not '$n'"

if [[ -z ${MILLION_IN_NETNS:-} ]]; then
  build_tidegate
  command -v ip >/dev/null || { apt-get update -qq && apt-get install -y -qq iproute2 >/dev/null; }
  rm -rf "$work"
  trap - EXIT
  # The namespace ends with its last process: there is nothing to be tidied up.
  export MILLION_IN_NETNS=inside
  buckets=/proc/sys/net/ipv4/tcp_child_ehash_entries
  if ((EUID != 0)); then
    unshare --user --map-root-user --net true 2>/dev/null || fail "no network namespace is to be had here: run it as root"
    exec unshare --user --map-root-user --net "${BASH_SOURCE[0]}" "$@"
  elif [[ -w $buckets ]]; then
    # The kernel sizes its table of connections by its memory, as for far fewer: the namespace gets one
    # of its own, as `thash_entries=` on the kernel's command line would make it for a whole host.
    before=$(<"$buckets")
    echo $((2 * n)) >"$buckets"
    unshare --net sleep infinity &
    until [[ $(readlink "/proc/$!/ns/net") != "$(readlink /proc/self/ns/net)" ]]; do :; done
    echo "$before" >"$buckets"
    MILLION_IN_NETNS=$! exec nsenter --net="/proc/$!/ns/net" "${BASH_SOURCE[0]}" "$@"
  fi
  exec unshare --net "${BASH_SOURCE[0]}" "$@"
fi
[[ $MILLION_IN_NETNS == inside ]] || kill "$MILLION_IN_NETNS" # it has held the namespace until now
ip link set lo up
# What belongs to the namespace is as tune-host.sh would have it.
for setting in net/ipv4/ip_local_port_range='1024 65535' net/core/somaxconn=65535 \
  net/ipv4/tcp_max_syn_backlog=65535 net/ipv4/tcp_max_tw_buckets=1048576; do
  [[ ! -w /proc/sys/${setting%%=*} ]] || echo "${setting#*=}" >"/proc/sys/${setting%%=*}"
done

limit=${LIMIT:-$(ulimit -Hn)}
[[ $limit != unlimited ]] || limit=$((n + 1000))
ulimit -n "$limit"
# The kernel gives each process its share by hash: some get more than others, by the square root.
servers=1
until awk -v n="$n" -v s="$servers" -v l="$limit" 'BEGIN { each = n / s; exit !(each + (s > 1) * 5 * sqrt(each) + 100 <= l) }'; do
  servers=$((servers + 1))
done
((2 * n + 100 * servers < $(</proc/sys/fs/file-max))) || fail "fs.file-max is too low: scripts/tune-host.sh $n --apply"

# now: seconds, with decimals.
now() { printf '%s\n' "$EPOCHREALTIME"; }
# since T: seconds since then.
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }
# div A B [FORMAT]: their quotient.
div() { awk -v a="$1" -v b="$2" -v f="${3:-%.0f}" 'BEGIN { printf f, b ? a / b : 0 }'; }
# cpu_ms PID...: CPU time of these processes, their children not among them. Milliseconds.
cpu_ms() {
  local pid stat sum=0
  for pid in "$@"; do
    stat=$(<"/proc/$pid/stat")
    read -ra stat <<<"${stat##*) }"
    sum=$((sum + stat[11] + stat[12]))
  done
  echo $((sum * 1000 / $(getconf CLK_TCK)))
}
# anonymous PID...: kilobytes of memory that are their own.
anonymous() {
  local files=("${@/#//proc/}")
  awk '$1 == "RssAnon:" { sum += $2 } END { print sum + 0 }' "${files[@]/%//status}"
}
# meminfo NAME: kilobytes.
meminfo() { awk -v name="$1:" '$1 == name { print $2 }' /proc/meminfo; }
# pings: heartbeats that the servers have sent.
pings() {
  local index sum=0 number
  for ((index = 0; index < servers; index++)); do
    exec {http}<>"/dev/tcp/127.0.0.1/$((10000 + index))"
    printf 'GET /metrics HTTP/1.0\r\n\r\n' >&"$http"
    number=$(awk '/^tidegate_pings_out_total/ { sum += $2 } END { print sum + 0 }' <&"$http")
    exec {http}>&-
    sum=$((sum + number))
  done
  echo "$sum"
}
say() { printf '%-44s %s\n' "$1" "$2"; }
# answer WHAT SECONDS: the generator's next line.
answer() {
  IFS= read -r -t "$2" line <&"$load_out" || { cat "$work/load.err" >&2; fail "$1: the load generator said nothing for $2 s"; }
  [[ $line == "$1"* ]] || { cat "$work/load.err" >&2; fail "instead of '$1 ...' the load generator said: $line"; }
}

"$tidegate" token million >"$work/token" 2>/dev/null
sed -n 2p "$work/token" >"$work/tokens"
sed -n 1p "$work/token" >"$work/secret"

printf '%s connections, %s server process%s on one port, %s open files each\n' "$n" "$servers" \
  "$( ((servers == 1)) || echo es)" "$limit"
((servers == 1)) || printf '(one would do where the limit of open files is above %s: scripts/tune-host.sh)\n' "$n"
echo

export TIDEGATE_AUTH=tokens TIDEGATE_TOKENS_FILE=$work/tokens TIDEGATE_HEARTBEAT_MS=$heartbeat_ms \
  TIDEGATE_LISTEN=127.0.0.1:7400 TIDEGATE_LOG=${TIDEGATE_LOG:-warn} TIDEGATE_BACKLOG=65535 TIDEGATE_DRAIN_TIMEOUT_MS=${TIDEGATE_DRAIN_TIMEOUT_MS:-90000}
pids=()
for ((index = 0; index < servers; index++)); do
  if ((servers > 1)); then
    export TIDEGATE_WORKERS=1 TIDEGATE_CPUS=$((index % $(nproc))) TIDEGATE_POOL_THREADS=1
  fi
  TIDEGATE_ADMIN=127.0.0.1:$((10000 + index)) TIDEGATE_DATA_DIR=$work/data.$index TIDEGATE_SERVICE_ID=million-$index \
    start "server-$index" "$tidegate" serve
  pids+=("$pid")
done
unset TIDEGATE_WORKERS TIDEGATE_CPUS

# What a process needs once is there before the first of its connections counts.
warm_up=("$tidegate" load echo --connect 127.0.0.1:7400 --token-file "$work/secret" --quiet)
"${warm_up[@]}" --connections $((20 * servers)) --depth 4 --duration 1 --json "$work/warm.json" >/dev/null 2>"$work/load.err" ||
  { cat "$work/load.err" >&2; fail 'the servers do not serve'; }
user_before=$(anonymous "${pids[@]}") slab_before=$(meminfo Slab)

begun=$(now)
mkfifo "$work/control"
exec {control}<>"$work/control"
input=$work/control patience=1800 start load "$tidegate" load hold --connect 127.0.0.1:7400 --token-file "$work/secret" \
  --connections "$n" --until-closed --control --quiet --connect-timeout 60s --json "$work/report.json" \
  --interval 1s ${REPORT:+--html "$REPORT"}
load_pid=$pid load_out=$out
[[ $line == "connected $n" ]] || { cat "$work/load.err" >&2; fail "not all connected: $line"; }
took=$(since "$begun")
say 'connected, authenticated' "$n in $took s: $(div "$n" "$took") a second"

# The kernel frees what a handshake needed a moment later.
sleep 5
# Its helpers are the children of its threads: proc_pid_task(5).
read -ra load_pids <<<"$load_pid $(cat "/proc/$load_pid"/task/*/children | tr '\n' ' ')"
user_kb=$(($(anonymous "${pids[@]}") - user_before)) load_kb=$(anonymous "${load_pids[@]}")
slab_kb=$(($(meminfo Slab) - slab_before))
user=$(div "$((user_kb * 1024))" "$n" %.1f)
say 'memory of the servers' "$user bytes a connection"
say 'memory of the kernel (slab)' "$(div "$((slab_kb * 1024))" "$n") bytes, both ends together"
say 'memory of the load generator' "$(div "$((load_kb * 1024))" "$n") bytes a connection"
say 'all together' "$(div "$((user_kb + load_kb + slab_kb))" 1048576 %.1f) GiB"

cpu=$(cpu_ms "${pids[@]}") beats=$(pings) begun=$(now)
sleep "$hold_s"
beats=$(($(pings) - beats)) cpu=$(($(cpu_ms "${pids[@]}") - cpu)) took=$(since "$begun")
say "heartbeats, every $heartbeat_ms ms" "$(div "$beats" "$took") a second, $(div "$((cpu * 1000))" "$beats" %.1f) us of CPU each, $(div "$cpu" "$(awk -v t="$took" 'BEGIN { print t * 10 }')" %.1f) % of a CPU"

cpu=$(cpu_ms "${pids[@]}") begun=$(now)
echo echo >&"$control"
answer echoed 120
took=$(since "$begun") cpu=$(($(cpu_ms "${pids[@]}") - cpu))
[[ $line == "echoed $n of $n" ]] || fail "not all were answered: $line"
say 'one echo to all' "$n in $took s: $(div "$n" "$took") a second, $(div "$((cpu * 1000))" "$n" %.1f) us of CPU each"

# look: what each server has spent until now, as long as it is there to be asked.
spent=()
look() {
  local index stat
  for index in "${!pids[@]}"; do
    { IFS= read -r stat <"/proc/${pids[index]}/stat"; } 2>/dev/null || continue
    read -ra stat <<<"${stat##*) }"
    spent[index]=$((stat[11] + stat[12]))
  done
}

cpu=$(cpu_ms "${pids[@]}") begun=$(now)
kill -TERM "${pids[@]}"
said=
until IFS= read -r -t 0.2 line <&"$load_out"; do
  said+=$line # what had come of it when its time was up
  look
  at_most "$(since "$begun")" 600 || fail 'after 600 s not all connections are closed'
done
took=$(since "$begun")
line=$said$line
[[ $line == settled ]] || fail "instead of 'settled' the load generator said: $line"
say 'SIGTERM to the last close' "$took s: $(div "$n" "$took") a second, with the clients on the same CPUs"
codes=0
for each in "${pids[@]}"; do
  wait "$each" || codes=$((codes + 1))
  ended "$each"
done
ticks=0
for each in "${spent[@]}"; do ticks=$((ticks + each)); done
cpu=$((ticks * 1000 / $(getconf CLK_TCK) - cpu))
drain=$(div "$cpu" $((1000 * $(nproc))) %.1f)
say 'the servers'\'' part of it' "$(div "$((cpu * 1000))" "$n" %.1f) us of CPU each: $drain s on $(nproc) CPUs"
say 'exit codes other than 0' "$codes of $servers"
report=0
wait "$load_pid" || report=$?
ended "$load_pid"

# number NAME: from the reports, each one's first, summed.
number() {
  local file sum=0
  for file in "$work/report.json" "$work/warm.json"; do
    sum=$((sum + $(grep -oE "\"$1\": *[0-9]+" "$file" | head -1 | grep -oE '[0-9]+$')))
  done
  echo "$sum"
}
sum() { cat "$work"/data.*/audit.jsonl | grep '"event_type":"shutdown"' | grep -oE "\"$1\":[0-9]+" | awk -F: '{ s += $2 } END { print s + 0 }'; }
# most NAME: of the servers' ledgers.
most() { cat "$work"/data.*/audit.jsonl | grep '"event_type":"shutdown"' | grep -oE "\"$1\":[0-9]+" | awk -F: '$2 > m { m = $2 } END { print m + 0 }'; }
say 'phases of the slowest server, ms' "gate $(most gate_ms), notice $(most notice_ms), finish $(most finish_ms), flush $(most flush_ms)"
accepted=$(sum accepted) answered=$(sum answered) failed=$(sum failed) cut=$(sum cut)
say 'the ledgers, summed' "$accepted accepted = $answered answered + $failed failed + $(sum pending) pending + $cut cut"
say 'the clients' "$(number sent) sent = $(number answered) answered + $(number failed) failed + $(number safe) safe to retry + $(number unknown) unknown + $(number lost) lost"
say 'closed without an end' "$(number broken)"
say 'requests lost' "$(number lost)"
echo
bad=()
((report == 0)) || bad+=("the account of the load generator: exit code $report")
((codes == 0)) || bad+=("$codes servers did not end well")
(($(number lost) == 0 && $(number unknown) == 0)) || bad+=('requests were lost')
(($(number broken) == 0)) || bad+=('connections were broken')
((accepted == answered + failed + cut)) || bad+=('the ledgers do not balance')
((accepted == $(number sent) - $(number safe) && answered == $(number answered))) || bad+=('the ledgers are not the account of the clients')
at_most "$user" "$budget" || bad+=("$user bytes a connection, over $budget")
at_most "$drain" "$drain_s" || bad+=("the drain took $drain s of all CPUs, over $drain_s")
if ((${#bad[@]})); then
  cat "$work/load.err" >&2
  printf 'FAILED: %s\n' "${bad[@]}"
  exit 1
fi
echo "PASSED: $n connections, nothing lost"
