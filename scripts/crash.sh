#!/usr/bin/env bash
# Kills in a row under mixed load: what was acknowledged against journal, sink and sessions.
#
#   scripts/crash.sh [N=10]
#
# N times `kill -9` of `tidegate serve` at a random moment (now and then while it starts), under clients that
# submit, put and echo, come back, resume and send again by the same idempotency key. Every PER_LIFE kills the
# clients leave, the server drains, and all is judged: every message acknowledged is in the journal (or deleted
# from it as done) and in the sink, none under two ids, in the order of its topic, and every value put can be
# read by whoever resumes. RTO is counted from the kill to /readyz 200, and until the sink has what was
# acknowledged before; RPO is what is not there. `crash --help` in benches/peers has more.
#
# Environment: SINK=file|redis|kafka|none STORE=embedded|redis|mysql|memory: the real servers are killed (-9)
# and started again in between, too. PER_LIFE=10 CLIENTS=24 LONGEST_MS=1500 SEED=... WORKERS=2 and every TIDEGATE_
# setting. PLANT=tail|lost|duplicate|reorder breaks a promise on purpose: then it has to fail. REPORT=FILE.md
# (target/crash/SINK-STORE.md). Lives that fail are kept in target/crash.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source-path=SCRIPTDIR source=servers.sh
source "$root/scripts/servers.sh"

kills=${1:-10}
[[ $kills =~ ^[1-9][0-9]*$ ]] || fail "N is a number from 1, not '$kills'"
sink=${SINK:-file}
store=${STORE:-embedded}
seed=${SEED:-$((RANDOM * 32768 + RANDOM))}
report=${REPORT:-$root/target/crash/$sink-$store.md}
features=()
options=()

case $sink in
  file) ;;
  none) options+=(--sink none) ;;
  redis)
    features+=(redis)
    redis_server
    options+=(--other "redis-sink=$port=$command")
    options+=(--sink "redis://127.0.0.1:$port?stream={name}" --look "redis:$port:{name}")
    ;;
  kafka)
    features+=(kafka)
    kafka_broker
    options+=(--other "kafka=$port=$command" --forgetful)
    options+=(--sink "kafka:127.0.0.1:$port?topic={name}" --look "command:$(kafka_reader "$port" '{name}')")
    ;;
  *) fail "SINK is file, redis, kafka or none, not '$sink'" ;;
esac
case $store in
  embedded) ;;
  memory) options+=(--sessions-in-memory) ;;
  redis)
    features+=(redis)
    redis_server
    options+=(--other "redis-store=$port=$command")
    store=redis://127.0.0.1:$port
    ;;
  mysql)
    features+=(mysql)
    mariadb_server
    options+=(--other "mariadb=$port=$command")
    store=mysql://root@127.0.0.1:$port/tidegate
    ;;
  *) fail "STORE is embedded, redis, mysql or memory, not '$store'" ;;
esac

if [[ -z ${TIDEGATE:-} ]]; then
  compile "$root/Cargo.toml" ${features[@]:+--features "${features[*]}"}
fi
compile "$root/benches/peers/Cargo.toml"

export TIDEGATE_SESSION_STORE=$store
export TIDEGATE_WORKERS=${WORKERS:-2} TIDEGATE_CPUS=${TIDEGATE_CPUS:-off} TIDEGATE_LOG=${TIDEGATE_LOG:-info}
# Small files, so that kills meet their beginnings, their ends and their deletion.
export TIDEGATE_JOURNAL_SEGMENT_BYTES=${TIDEGATE_JOURNAL_SEGMENT_BYTES:-1048576}
export TIDEGATE_SESSION_TTL_S=${TIDEGATE_SESSION_TTL_S:-3600} TIDEGATE_SESSION_MAX_BYTES=${TIDEGATE_SESSION_MAX_BYTES:-16384}
export TIDEGATE_DRAIN_NOTICE_MS=${TIDEGATE_DRAIN_NOTICE_MS:-0}
# A sink that was down is tried again soon.
export TIDEGATE_SINK_BACKOFF_MAX_MS=${TIDEGATE_SINK_BACKOFF_MAX_MS:-1000}

mkdir -p "$root/target/crash" "${report%/*}"
lives=$root/target/crash/lives-$$
note="$kills kills, sink $sink, sessions ${STORE:-embedded}, ${CLIENTS:-24} clients, $(uname -sr), $(date -u +%F)"
code=0
"$peers/crash" "$tidegate" "$lives" --kills "$kills" --per-life "${PER_LIFE:-10}" --clients "${CLIENTS:-24}" \
  --seed "$seed" --longest-ms "${LONGEST_MS:-1500}" --report "$report" --results "${report%.md}.json" --note "$note" \
  ${PLANT:+--plant "$PLANT"} "${options[@]}" || code=$?
rmdir "$lives" 2>/dev/null || true
case $code in
  0) echo "PASSED: $kills kills, nothing lost, nothing twice (report: $report)" ;;
  1) echo "FAILED: see above, $report and $lives" ;;
esac
exit "$code"
