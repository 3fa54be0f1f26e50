#!/usr/bin/env bash
# tidegate beside other servers that echo: server CPU per frame and per connection, rates, and the
# memory of an idle connection, as ratios to a bare epoll loop.
#
#   scripts/compare.sh [ROUNDS=5]
#
# PEERS: floor (bare epoll), c (the same in C), mio, tokio, tokio-framed (parses as tidegate does),
# smol, monoio and compio (io_uring), go; all of them write back what they read. Each has one thread
# on SERVER_CPU; the client spins on CLIENT_CPU and sends a connection's next burst when the last
# reply of the previous one is there. All servers hold their connections while one of them is
# measured, for SECONDS_EACH, in an order that moves on by one every round: a host drifts over minutes.
# floor, c, mio and tidegate read up to 128 KiB at a time into memory that all connections share; with
# the others each connection has a buffer of its own, of BUFFER bytes.
#
# Last comes work that is on the disk before it is answered, beside the disk and other servers: DURABLE names
# what scripts/durable.sh measures (MEASURE there, and the rest of its environment but PEERS: DURABLE_PEERS).
#
# Environment: PEERS="floor tidegate ..." CONNECTIONS="64 1000 15000" DEPTHS="1 16 64"
# PAYLOADS="32 4096" SECONDS_EACH=0.5 STORM=10000 (connections, 0: none) HOLD="4000 16000" (idle
# connections, none: HOLD=) BUFFER=16384 IN_FLIGHT_MIB=256 (cases with more than that on its way are left out)
# SERVER_CPU=0 CLIENT_CPU=1, budgets as in floor.sh; RESULTS=FILE.json PICTURE=FILE.svg; DURABLE="batch slow one
# echo restart peers" (none: DURABLE=) DURABLE_PEERS="tidegate tidegate-polling redis-xadd redis-set nats".
# Yours: OWN="NAME=raw|mcp=COMMAND with {port}", one a line; it must be ready within 10 s and not fork.
# Fails where tidegate is over a budget: frames of 32 B on 64 and 15,000 connections, connect + AUTH, durable work.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# The floor keeps nothing, and sessions are in memory here, too; "embedded" measures with those that are kept.
export TIDEGATE_SESSION_STORE=${TIDEGATE_SESSION_STORE:-memory}

rounds=${1:-5}
server_cpu=${SERVER_CPU:-0}
client_cpu=${CLIENT_CPU:-1}
seconds_each=${SECONDS_EACH:-0.5}
storm=${STORM:-10000}
buffer=${BUFFER:-16384}
in_flight=$((${IN_FLIGHT_MIB:-256} * 1048576))
read -ra names <<<"${PEERS:-floor tidegate c mio tokio tokio-framed smol monoio compio go}"
read -ra counts <<<"${CONNECTIONS:-64 1000 15000}"
read -ra depths <<<"${DEPTHS:-1 16 64}"
read -ra payloads <<<"${PAYLOADS:-32 4096}"
read -ra hold <<<"${HOLD-4000 16000}"
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "ROUNDS is a number from 1, not '$rounds'"
limit=$(ulimit -Hn)
for count in "${counts[@]}" "${hold[@]}"; do
  [[ $limit == unlimited ]] || ((count + 100 <= limit)) || fail "$count connections need more than the $limit open files allowed"
done
((storm <= 18000)) || fail "STORM is at most 18000, not '$storm'"
((${#hold[@]} == 0 || ${#hold[@]} == 2)) || fail "HOLD is two numbers of connections, or empty"

declare -A mode=([tidegate]=mcp [tokio-framed]=mcp) own=() server=() address_of=() client=() asks=() answers=()
while IFS='=' read -r name kind command; do
  [[ -n $name ]] || continue
  [[ $kind =~ ^(raw|mcp)$ && $command == *'{port}'* ]] || fail "OWN is NAME=raw|mcp=COMMAND with {port}, not '$name=$kind=$command'"
  names+=("$name") mode[$name]=$kind own[$name]=$command
done <<<"${OWN:-}"

# build_peers: those asked for; whoever can't be built here is left out, and said so.
build_peers() {
  local name kept=() why
  build
  for name in "${names[@]}"; do
    why=
    case $name in
      mio | tokio | tokio-framed | smol | monoio | compio)
        [[ -n ${runtimes:-} ]] || compile "$root/benches/peers/Cargo.toml" --workspace
        runtimes=built
        ;;
      c) cc -O2 -o "$work/c" "$root/benches/peers/c/floor.c" -lpthread 2>"$work/c.err" || why='no C compiler' ;;
      go) GOFLAGS=-mod=mod GO111MODULE=auto go build -o "$work/go" "$root/benches/peers/go/main.go" 2>"$work/go.err" || why='no Go compiler' ;;
      floor | tidegate) ;;
      *) [[ -n ${own[$name]:-} ]] || fail "PEERS: there is no '$name'" ;;
    esac
    if [[ -z $why ]]; then kept+=("$name"); else echo "left out: $name ($why)"; fi
  done
  names=("${kept[@]}")
}

# start_own NAME: on a port that is free now; it is ready when somebody can connect.
start_own() {
  local port try command
  while port=$((20000 + RANDOM % 10000)) && (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  command=${own[$1]//'{port}'/$port}
  taskset -c "$server_cpu" bash -c "exec $command" >"$work/$1.out" 2>"$work/$1.err" </dev/null &
  pid=$!
  started+=("$pid")
  for ((try = 0; try < 100; try++)); do
    if (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null || ! kill -0 "$pid" 2>/dev/null; then break; fi
    sleep 0.1
  done
  address=127.0.0.1:$port
}

start_server() {
  local name=$1 command
  case $name in
    tidegate)
      # Sessions of a storm end soon, so that every round finds the same server; and no heartbeat
      # comes to a connection that rests while others are measured.
      TIDEGATE_WORKERS=1 TIDEGATE_CPUS=$server_cpu TIDEGATE_HEARTBEAT_MS=3600000 \
        TIDEGATE_SESSION_TTL_S=${TIDEGATE_SESSION_TTL_S:-1} start_tidegate "$work/data"
      ;;
    *)
      case $name in
        c | go) command=$work/$name ;;
        floor) command=$peers/floor ;;
        tokio-framed) command=$peers/peer_framed ;;
        *) command=$peers/peer_$name ;;
      esac
      if [[ -n ${own[$name]:-} ]]; then
        start_own "$name"
      else
        case $name in
          floor | c | mio) start "$name" "$command" --cpus "$server_cpu" ;;
          *) start "$name" "$command" --cpus "$server_cpu" --buffer "$buffer" ;;
        esac
        address=${line##* }
      fi
      ;;
  esac
  server[$name]=$pid address_of[$name]=$address
}

# load NAME OPTIONS...: the client's command line, in $load.
load() {
  local name=$1
  shift
  load=("$peers/echo_load" "${address_of[$name]}" --mode "${mode[$name]:-raw}" --pid "${server[$name]}" --cpu "$client_cpu" "$@")
}

# check_servers: whoever does not echo (io_uring may be forbidden) is left out, and said so.
check_servers() {
  local name kept=() load
  for name in "${names[@]}"; do
    start_server "$name"
    load "$name" --connections 1 --frames 1 --warm-up-ms 0
    if "${load[@]}" >/dev/null 2>"$work/check.err"; then
      kept+=("$name")
    elif [[ $name == floor || $name == tidegate ]]; then
      fail "$name does not echo: $(<"$work/check.err")"
    else
      echo "left out: $name (it does not echo: $(tail -1 "$work/$name.err") $(<"$work/check.err"))"
    fi
    stop "${server[$name]}"
  done
  names=("${kept[@]}")
}

# in_order ROUND: the servers' names in $order, turned by one every round.
in_order() {
  local by=$((($1 - 1) % ${#names[@]}))
  order=("${names[@]:by}" "${names[@]:0:by}")
}

progress() {
  [[ ! -t 2 ]] || printf '\r\033[K%s' "$*" >&2
}

# echoes CONNECTIONS: all depths and payloads, on connections that are made once.
echoes() {
  local connections=$1 name round payload depth load order input
  for name in "${names[@]}"; do
    progress "$connections connections to $name"
    start_server "$name"
    rm -f "$work/asks"
    mkfifo "$work/asks"
    exec {ask}<>"$work/asks"
    load "$name" --connections "$connections" --steps --warm-up-ms 100
    input=$work/asks start "client-$name" "${load[@]}"
    [[ $line == ready ]] || fail "no client of $name: $line"
    client[$name]=$pid asks[$name]=$ask answers[$name]=$out
  done
  for ((round = 1; round <= rounds; round++)); do
    in_order "$round"
    for payload in "${payloads[@]}"; do
      for depth in "${depths[@]}"; do
        ((connections * depth * payload <= in_flight)) || continue
        progress "round $round of $rounds: $connections connections, depth $depth, $payload B"
        for name in "${order[@]}"; do
          echo "$depth $payload $seconds_each" >&"${asks[$name]}"
          IFS= read -r -t 60 line <&"${answers[$name]}" || fail "$name at depth $depth: $(<"$work/client-$name.err")"
          echo "echo $name $connections $depth $payload $line" >>"$work/measured"
        done
      done
    done
  done
  for name in "${names[@]}"; do
    stop "${client[$name]}"
    ask=${asks[$name]} out=${answers[$name]}
    exec {ask}>&- {out}<&-
  done
  stop_servers
}

stop_servers() {
  local name
  for name in "${names[@]}"; do
    stop "${server[$name]}"
  done
}

storms() {
  local name round load order
  for name in "${names[@]}"; do start_server "$name"; done
  for ((round = 1; round <= rounds; round++)); do
    progress "round $round of $rounds: connect + AUTH"
    in_order "$round"
    for name in "${order[@]}"; do
      load "$name" --storm "$storm"
      echo "storm $name 64 0 0 $("${load[@]}")" >>"$work/measured"
    done
  done
  stop_servers
}

# idle_memory: a server of its own for each slope.
idle_memory() {
  local name load
  for name in "${names[@]}"; do
    progress "idle connections of $name"
    start_server "$name"
    load "$name" --hold "${hold[0]},${hold[1]}"
    echo "idle $name 0 0 0 $("${load[@]}")" >>"$work/measured"
    stop "${server[$name]}"
  done
}

build_peers
check_servers
SECONDS=0
for count in "${counts[@]}"; do echoes "$count"; done
((storm == 0)) || storms
((${#hold[@]} == 0)) || idle_memory
progress ''
model=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1)
note="$rounds rounds of $seconds_each s, one server thread on CPU $server_cpu, client spinning on CPU $client_cpu; buffers of $((buffer / 1024)) KiB; $model, Linux $(uname -r), $(date -u +%F)"
printf '%s\nmeasured in %d min %d s\n\n' "$note" $((SECONDS / 60)) $((SECONDS % 60))
verdict=0
"$peers/report" --note "$note" ${RESULTS:+--results "$RESULTS"} ${PICTURE:+--picture "$PICTURE"} \
  --budget-1 "${BUDGET_1:-1.05}" --budget-more "${BUDGET_MORE:-1.10}" --budget-storm "${BUDGET_STORM:-1.18}" \
  <"$work/measured" || verdict=$?
if [[ -n ${DURABLE-all} ]] && ((verdict < 2)); then
  echo
  # Here it is a list, and one number there.
  env -u CONNECTIONS SECONDS_EACH="${DURABLE_SECONDS_EACH:-1}" MEASURE="${DURABLE:-batch slow one echo restart peers}" \
    PEERS="${DURABLE_PEERS:-}" TIDEGATE="$tidegate" "$root/scripts/durable.sh" "$rounds" || verdict=1
fi
echo
case $verdict in
  0) echo 'PASSED: everything within its budget' ;;
  1) echo 'FAILED: over budget' ;;
esac
exit "$verdict"
