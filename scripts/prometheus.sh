#!/usr/bin/env bash
# Has a real Prometheus watch a real server, and checks what it makes of it.
#
#   scripts/prometheus.sh
#
# The alerts pass their unit tests; the server is scraped without an error; what Prometheus counts is
# what the clients have counted; every query of the dashboard returns data and every panel has a title, a
# unit and a description; every alert evaluates; and a drain, and the end after it, are seen.
# Environment: PROMETHEUS, PROMTOOL: installed from apt where there are none.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

deploy=$root/scripts/deploy
missing=()
command -v "${PROMETHEUS:-prometheus}" >/dev/null && command -v "${PROMTOOL:-promtool}" >/dev/null || missing+=(prometheus)
command -v curl >/dev/null || missing+=(curl)
command -v jq >/dev/null || missing+=(jq)
if ((${#missing[@]})); then
  printf 'installing %s\n' "${missing[*]}" >&2
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
prometheus=${PROMETHEUS:-prometheus}
promtool=${PROMTOOL:-promtool}

checked() { printf 'ok  %s\n' "$*"; }

(cd "$deploy" && "$promtool" check config prometheus.yml && "$promtool" test rules prometheus-rules-test.yml) \
  >"$work/promtool" 2>&1 || {
  cat "$work/promtool" >&2
  fail 'promtool finds fault with scripts/deploy'
}
alerts=$(grep -c -- '- alert: ' "$deploy/prometheus-rules.yml")
while read -r alert; do
  (($(grep -c "alertname: $alert\b" "$deploy/prometheus-rules-test.yml") >= 2)) || fail "$alert is not tested both ways"
done < <(sed -n 's/.*- alert: //p' "$deploy/prometheus-rules.yml")
checked "promtool: configuration, $alerts alerts and their tests"

panels=$(jq '[.panels[] | select(.type != "row")] | length' "$deploy/grafana-dashboard.json")
bare=$(jq -r '.panels[] | select(.type != "row")
  | select(.title == "" or (.description // "") == "" or (.fieldConfig.defaults.unit // "") == "" or .targets == [])
  | .title' "$deploy/grafana-dashboard.json")
[[ -z $bare ]] || fail "panels without a title, unit, description or query: $bare"

# A debug build: it is made for the tests anyway, and is fast enough here.
cargo build --quiet --locked --manifest-path "$root/Cargo.toml" --bin tidegate --example handlers 2>"$work/build.err" || {
  cat "$work/build.err" >&2
  fail 'the server does not build'
}
tidegate=$root/target/debug/tidegate

# What others have set is not for this server.
unset "${!TIDEGATE_@}"
"$tidegate" token prober >"$work/token" 2>/dev/null
sed -n 2p "$work/token" >"$work/tokens"
sed -n 1p "$work/token" >"$work/secret"
TIDEGATE_LISTEN=127.0.0.1:0 TIDEGATE_ADMIN=127.0.0.1:0 TIDEGATE_WORKERS=2 TIDEGATE_CPUS=off \
  TIDEGATE_AUTH=tokens TIDEGATE_TOKENS_FILE=$work/tokens TIDEGATE_DRAIN_ANNOUNCE_MS=3000 TIDEGATE_DATA_DIR=$work/data \
  TIDEGATE_SINKS="audit/#=file:$work/audit.jsonl,*=none" \
  start handlers "$root/target/debug/examples/handlers"
server=$pid
[[ $line =~ ^handlers\ listens\ on\ ([^\;]+)\;\ admin\ http://(.+)$ ]] || fail "no addresses in: $line"
address=${BASH_REMATCH[1]} admin=${BASH_REMATCH[2]}
export TIDEGATE_CONNECT=$address TIDEGATE_TOKEN_FILE=$work/secret

# The shipped configuration, with this server and a shorter breath.
sed -e 's/_interval: 15s/_interval: 500ms/' -e "s|127.0.0.1:7401|$admin|" -e "s|prometheus-rules.yml|$deploy/&|" \
  "$deploy/prometheus.yml" >"$work/prometheus.yml"
"$prometheus" --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" --log.level=warn \
  --web.listen-address=127.0.0.1:0 --log.format=json 2>"$work/prometheus.err" >/dev/null &
watcher=$!
started+=("$watcher")

# It does not tell which port it was given: the kernel does.
port_of() {
  local inodes
  inodes=$(find "/proc/$1/fd" -lname 'socket:*' -printf '%l\n' 2>/dev/null | tr -dc '0-9\n')
  awk 'NR == FNR { mine[$1] = 1; next } $4 == "0A" && $10 in mine { split($2, at, ":"); print at[2]; exit }' \
    <(printf '%s\n' "$inodes") <(cat /proc/net/tcp /proc/net/tcp6) | sed 's/^/16#/'
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    kill -0 "$watcher" 2>/dev/null || { cat "$work/prometheus.err" >&2; fail 'prometheus has ended'; }
    ((SECONDS < end)) || { cat "$work/prometheus.err" >&2; fail "not in time: $what"; }
    sleep 0.1
  done
}
listening() { port=$(port_of "$watcher") && [[ $port ]]; }
wait_for 20 'prometheus listens' listening
api=http://127.0.0.1:$((port))/api/v1

# ask PATH PARAMETER...: its answer, which has to be a success.
ask() {
  local path=$1 parameters=() parameter
  shift
  for parameter in "$@"; do parameters+=(--data-urlencode "$parameter"); done
  curl --silent --max-time 10 --get "${parameters[@]}" "$api/$path" >"$work/answer" || return 1
  [[ $(jq -r .status "$work/answer") == success ]] || return 1
}
# number QUERY: the value of its one series.
number() {
  ask query "query=$1" || fail "prometheus refuses: $1: $(jq -r .error "$work/answer")"
  jq -re '.data.result | if length == 1 then .[0].value[1] else error("not one series") end' "$work/answer"
}
# is QUERY NUMBER
is() { [[ $(number "$1" 2>/dev/null) == "$2" ]]; }
up() { is 'up{job="tidegate"}' 1; }
wait_for 20 'the server is scraped' up

# Load with errors in it, logins that are refused, and a command that nothing serves.
printf '%s\n' '55 ECHO 32' '5 SUBMIT 64' '10 SESSION_PUT 64' '10 0x20 100' '5 0x21' '3 0x22' '2 0x23' >"$work/mix"
"$tidegate" load mix --mix "$work/mix" --connections 20 --rate 2000 --duration 8s --quiet --json "$work/report" \
  >"$work/load" 2>&1 || true
[[ -s $work/report ]] || { cat "$work/load" >&2; fail 'the load generator made no report'; }
for _ in 1 2 3; do
  printf 'wrong' >"$work/wrong"
  ! "$tidegate" call --token-file "$work/wrong" ECHO hello >/dev/null 2>&1 || fail 'a wrong token was let in'
done
! "$tidegate" call 0x77 hello >/dev/null 2>&1 || fail 'a command that nothing serves was served'

# What is told by the clients: their requests, and the calls' AUTH, request and BYE.
account() { jq ".account.$1" "$work/report"; }
settled() {
  is 'sum(tidegate_requests_total{cmd="other"})' 1 && is 'sum(tidegate_connections_open)' 0 \
    && is 'sum(tidegate_connections_closed_total{cause="auth_failed"})' 3
}
wait_for 20 'prometheus has seen all of it' settled
calls_answered=$(number 'sum(tidegate_requests_total{cmd=~"AUTH|BYE", outcome="answered"})')
of_load=$((2 * $(jq .account.connections "$work/report")))
((calls_answered >= of_load && calls_answered <= of_load + 2)) || fail "$calls_answered AUTH and BYE, of load $of_load"
agree() { # WHAT QUERY NUMBER
  local counted
  counted=$(number "$2")
  [[ $counted == "$3" ]] || fail "$1: prometheus has $counted, the clients $3"
}
agree answered 'sum(tidegate_requests_total{outcome="answered"})' $(($(account answered) + calls_answered - of_load))
agree failed 'sum(tidegate_requests_total{outcome="failed"})' $(($(account failed) + 3 + 1))
agree 'connections' 'sum(tidegate_connections_accepted_total)' $(($(account connections) + 3 + 1))
agree 'all ends and connections' 'sum(tidegate_connections_accepted_total) - sum(tidegate_connections_closed_total)' 0
agree 'the account of the requests' 'max(max_over_time(tidegate_ledger_unbalanced_requests[1m]))' 0
agree 'scrapes that failed' 'count_over_time(up{job="tidegate"}[5m]) - sum_over_time(up{job="tidegate"}[5m])' 0
kinds=$(curl --silent --max-time 10 "$api/metadata" | jq '[.data | to_entries[] | select(.key | startswith("tidegate_"))
  | select(.value[0].help == "" or .value[0].type == "unknown")] | length')
[[ $kinds == 0 ]] || fail "$kinds families have no HELP or TYPE in Prometheus"
ask targets || fail 'no targets'
[[ $(jq -r '.data.activeTargets[0].lastError' "$work/answer") == '' ]] || fail "$(jq -r '.data.activeTargets[0].lastError' "$work/answer")"
checked "scraped: $(account sent) requests of the load generator, and all else, as the clients have it"

# Every query, with the variables as Grafana would fill them in.
# filled QUERY
filled() {
  # shellcheck disable=SC2016 # they are Grafana's variables, not ours
  sed -e 's/\$instance/.*/g' -e 's/\$__rate_interval/1m/g' <<<"$1"
}
queries=0
while IFS= read -r query; do
  query=$(filled "$query")
  ask query "query=$query" || fail "the dashboard's query is refused: $query: $(jq -r .error "$work/answer")"
  (($(jq '.data.result | length' "$work/answer") > 0)) || fail "the dashboard's query returns nothing: $query"
  jq -e 'all(.data.result[]; .value[1] != "NaN")' "$work/answer" >/dev/null || fail "not a number: $query"
  queries=$((queries + 1))
done < <(jq -r '.panels[].targets[]?.expr' "$deploy/grafana-dashboard.json")
((queries >= 40)) || fail "only $queries queries were found in the dashboard"
checked "dashboard: $panels panels, $queries queries return data"

# A drain, with somebody who stays to its end.
"$tidegate" load hold --connections 5 --until-closed --quiet >"$work/hold" 2>&1 &
holder=$!
started+=("$holder")
held() { is 'sum(tidegate_connections_open)' 5; }
wait_for 20 'five connections are held' held
kill -TERM "$server"
draining() { is 'sum(tidegate_drain_phase{phase="announce"})' 2 && is tidegate_ready 0 && is tidegate_drain_connections_at_begin 5; }
wait_for 10 'the drain is seen' draining
annotation=$(filled "$(jq -r '.annotations.list[0].expr' "$deploy/grafana-dashboard.json")")
seen() { ask query "query=$annotation" && (($(jq '.data.result | length' "$work/answer") == 1)); }
wait_for 10 'the dashboard marks the drain' seen
code=0
wait "$server" || code=$?
ended "$server"
((code == 0)) || { cat "$work/handlers.err" >&2; fail "the server ended with $code"; }
wait "$holder" || true
ended "$holder"
pending() {
  ask alerts && [[ $(jq -r '[.data.alerts[] | select(.labels.alertname == "TidegateDown") | .state] | first' "$work/answer") == pending ]]
}
wait_for 10 'TidegateDown is pending' pending
ask rules 'type=alert' || fail 'prometheus tells no rules'
[[ $(jq '[.data.groups[].rules[] | select(.health == "ok")] | length' "$work/answer") == "$alerts" ]] \
  || fail "an alert can't be evaluated: $(jq -c '.data.groups[].rules[] | select(.health != "ok") | [.name, .lastError]' "$work/answer")"
checked "a drain by its phases, and the end: $alerts alerts evaluate, TidegateDown is pending"
if grep -q -E '"level":"(error|warn)"' "$work/prometheus.err"; then
  cat "$work/prometheus.err" >&2
  fail 'prometheus complains'
fi
stop "$watcher"
echo 'PASSED: Prometheus sees what there is to see'
