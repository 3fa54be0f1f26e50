#!/usr/bin/env bash
# Checks what is in scripts/deploy, as far as it can be without a host that runs it: the units by systemd's
# own tools and by what the program really does, the manifest by Kubernetes' schema and by its own figures.
#
#   scripts/deploy-check.sh       installs what it needs
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

# In tenths. 0 is a service that can do nothing at all; this one has a network to serve.
: "${EXPOSURE:=13}"

deploy=$root/scripts/deploy
# Debug is as good as release here; the tests have built it.
tidegate=${TIDEGATE:-$root/target/debug/tidegate}
[[ -n ${TIDEGATE:-} ]] || cargo build --quiet --locked --manifest-path "$root/Cargo.toml"

# need COMMAND PACKAGE: installs it where that can be done.
need() {
  command -v "$1" > /dev/null && return
  command -v apt-get > /dev/null || return 1
  echo "installing $2"
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "$2" > /dev/null
}

# The units, with the program where it is.
units() {
  mkdir "$work/units"
  sed "s|/usr/bin/tidegate|$tidegate|" "$deploy/tidegate.service" > "$work/units/tidegate.service"
  cp "$deploy/tidegate.socket" "$work/units"
  # It complains, and exits with 0, about a setting that it does not know.
  systemd-analyze verify --man=no "$work"/units/tidegate.* 2>&1 | tee "$work/verify"
  [[ ! -s $work/verify ]] || fail "systemd-analyze verify has something to say"
  echo "systemd-analyze verify: nothing to say"
  systemd-analyze security --offline=yes --no-pager --threshold="$EXPOSURE" "$work/units/tidegate.service" \
    > "$work/security" || { cat "$work/security"; fail "more exposed than $EXPOSURE tenths"; }
  tail -1 "$work/security"
}

# allowed: the system calls that the unit's filters leave, one a line.
allowed() {
  local line name calls
  : > "$work/allowed"
  while IFS= read -r line; do
    line=${line#SystemCallFilter=}
    read -ra names <<< "${line#\~}"
    calls=$(for name in "${names[@]}"; do members "$name"; done)
    if [[ $line == \~* ]]; then
      grep -vxF "$calls" "$work/allowed" > "$work/left" || true
    else
      { cat "$work/allowed"; echo "$calls"; } > "$work/left"
    fi
    mv "$work/left" "$work/allowed"
  done < <(grep '^SystemCallFilter=' "$deploy/tidegate.service")
}

# members NAME: a call, or those of a set and of the sets in it.
members() {
  if [[ $1 != @* ]]; then
    echo "$1"
    return
  fi
  local member
  systemd-analyze syscall-filter --no-pager "$1" | sed -n 's/^ *\([@a-z_0-9-]*\)$/\1/p' | tail -n +2 \
    | while read -r member; do members "$member"; done
}

# What the program asks of the kernel from its start to the end of its drain is what the filter allows.
system_calls() {
  local address admin used refused
  local credentials=$work/credentials token=$work/token
  mkdir -m 700 "$credentials"
  (umask 077 && "$tidegate" token checker 2> /dev/null > "$token" && tail -1 "$token" > "$credentials/tokens")
  CREDENTIALS_DIRECTORY=$credentials TIDEGATE_LISTEN=127.0.0.1:0 TIDEGATE_ADMIN=127.0.0.1:0 \
    TIDEGATE_DATA_DIR=$work/data TIDEGATE_DRAIN_NOTICE_MS=10 NOTIFY_SOCKET=$work/nobody WATCHDOG_USEC=100000 \
    start traced strace --daemonize --follow-forks --quiet=all --output="$work/strace" \
    "$tidegate" serve --env-file "$deploy/tidegate.env"
  [[ $line =~ listens\ on\ ([^\;]+)\;\ admin\ http://(.*)$ ]] || fail "no address in: $line"
  address=${BASH_REMATCH[1]} admin=${BASH_REMATCH[2]}
  TIDEGATE_TOKEN=$(head -1 "$token") "$tidegate" call --connect "$address" --repeat 100 ECHO hello > "$work/echo" 2>&1 \
    || { cat "$work/echo" >&2; fail "no echo"; }
  local http
  exec {http}<>"/dev/tcp/${admin%:*}/${admin#*:}"
  printf 'GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&"$http"
  grep -q ^tidegate_build_info <&"$http" || fail "no metrics"
  exec {http}<&-
  kill -HUP "$pid"
  kill -TERM "$pid"
  wait "$pid" || fail "the server under strace exited with $?"
  ended "$pid"
  allowed
  # execve and what comes before main are systemd's and the loader's; both are in the filter as well.
  used=$(sed -n 's/^[0-9]* *\([a-z_0-9]*\)(.*/\1/p' "$work/strace" | sort -u)
  refused=$(grep -vxFf "$work/allowed" <<< "$used" || true)
  [[ -z $refused ]] || fail "SystemCallFilter= refuses what the program needs: ${refused//$'\n'/ }"
  echo "system calls: $(wc -l <<< "$used") different ones, all within SystemCallFilter="
  # Nor has it anything executable that can be written (MemoryDenyWriteExecute=).
  if grep -E '(mmap|mprotect)\(.*PROT_WRITE\|PROT_EXEC' "$work/strace"; then
    fail "MemoryDenyWriteExecute= refuses that"
  fi
}

# Kubernetes' schemas are many megabytes; they are kept below target/.
manifest() {
  local libraries=$root/target/tools/kubernetes
  if [[ ! -d $libraries ]]; then
    echo "installing kubernetes-validate into ${libraries#"$root"/}"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
      --target "$libraries.new" kubernetes-validate || return 1
    mv "$libraries.new" "$libraries"
  fi
  PYTHONPATH=$libraries PYTHONDONTWRITEBYTECODE=1 python3 -W ignore "$root/scripts/deploy-check.py" "$tidegate" \
    || fail "see above"
}

manifest || echo "deploy-check.sh: no Python, or no package index: kubernetes.yaml is not looked at"
if need systemd-analyze systemd; then
  units
  if [[ $(uname -s) == Linux ]] && need strace strace && strace --output=/dev/null true 2> /dev/null; then
    system_calls
  else
    echo "deploy-check.sh: no strace, or not allowed to: what SystemCallFilter= refuses is not looked at"
  fi
else
  echo "deploy-check.sh: no systemd-analyze: the units are not looked at"
fi
