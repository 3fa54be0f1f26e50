#!/usr/bin/env bash
# What this Linux host has, beside what so many connections need, and how to give it to them.
#
#   scripts/tune-host.sh [CONNECTIONS=1000000]             looks; exit code 0: nothing fails, 1: something
#   scripts/tune-host.sh [CONNECTIONS] --apply             raises kernel settings until the next boot
#   scripts/tune-host.sh [CONNECTIONS] --persist           and for later boots, with the limit of open
#                                                          files for logins; it says what systemd needs
#
# warn: the connections can be had all the same, it costs speed, or room in a bad moment. fail: so many
# can't be had. `tidegate doctor` says the same of what is here, and looks at more, that no script can
# raise: cgroups, interrupts, clock, disk.
# Nothing is ever lowered. It needs nothing else of this repository: copy it to where it is wanted.
# Environment: PROC=/proc SYS=/sys ETC=/etc (other trees, for tests), TIDEGATE_BACKLOG, TIDEGATE_WORKERS,
# TIDEGATE_CORE_MAX_CONNECTIONS, TIDEGATE_SO_RCVBUF and TIDEGATE_SO_SNDBUF where the server has its own.
set -euo pipefail
export LC_ALL=C

# Measured, bytes of an idle connection: scripts/idle.sh, and half of what scripts/million.sh finds in
# the kernel's slabs for both ends.
user_bytes=96
kernel_bytes=5200
# For the rest of the host and for what connections have under way: bytes.
spare_bytes=$((512 << 20))
# The server's own descriptors: its files, polls and listeners; and each worker's slots to refuse in.
spare_files=1024
refusal_files=256

proc=${PROC:-/proc}
sys=${SYS:-/sys}
etc=${ETC:-/etc}
backlog=${TIDEGATE_BACKLOG:-4096}
core_max=${TIDEGATE_CORE_MAX_CONNECTIONS:-1000000}

fail() {
  printf 'tune-host.sh: %s\n' "$*" >&2
  exit 2
}

number=1000000 apply=0 persist=0
for argument in "$@"; do
  case $argument in
    --apply) apply=1 ;;
    --persist) apply=1 persist=1 ;;
    *[!0-9]* | '' | 0*) fail "CONNECTIONS, --apply or --persist are wanted, not '$argument'" ;;
    *) number=$argument ;;
  esac
done
((${#number} <= 9)) || fail "CONNECTIONS is at most 999999999, not '$number'"
[[ -d $proc/sys ]] || fail "there is no $proc/sys: this is for Linux"
if ((apply)) && (($(id -u) != 0)); then
  fail "only root may change the kernel's settings: sudo $0 $*"
fi

# Names of settings, in order, what it is when one is short, and what each needs: as many numbers as it
# has, 0 where any will do. src/doctor/knobs.rs has the same ones.
knobs=()
declare -A needs=() shorts=()
knob() {
  knobs+=("$1")
  shorts[$1]=$2
  needs[$1]=$3
}

ceil() { printf '%s\n' "$((($1 + $2 - 1) / $2))"; }
most() { printf '%s\n' "$(($1 > $2 ? $1 : $2))"; }
least() { printf '%s\n' "$(($1 < $2 ? $1 : $2))"; }

cpus=$(grep -c '^processor' "$proc/cpuinfo" 2>/dev/null) || cpus=1
workers=${TIDEGATE_WORKERS:-auto}
[[ $workers =~ ^[1-9][0-9]{0,3}$ ]] || workers=$cpus
files=$((number + spare_files + refusal_files * workers))

knob fs.nr_open fail "$files"
knob fs.file-max fail "$((files + 65536))"
# Each connection is registered with one epoll. The default is by memory: few hosts have too little.
knob fs.epoll.max_user_watches fail "$files"
# It cuts the server's backlog down, silently.
knob net.core.somaxconn warn "$backlog"
knob net.ipv4.tcp_max_syn_backlog warn "$backlog"
# Packets that wait for a CPU, loopback's too: one connection in 64 sends at the same moment.
knob net.core.netdev_max_backlog warn "$(least 16384 "$(most 1000 "$((number / 64))")")"
knob net.ipv4.tcp_syncookies warn 1
# Pages. A drain has a GOAWAY under way to all at once, a page each; then all of them answer.
knob net.ipv4.tcp_mem warn "0 $number $((2 * number))"
# They cut the sizes of buffers that the settings ask for down, silently.
[[ ! ${TIDEGATE_SO_RCVBUF:-} =~ ^[1-9][0-9]*$ ]] || knob net.core.rmem_max warn "$TIDEGATE_SO_RCVBUF"
[[ ! ${TIDEGATE_SO_SNDBUF:-} =~ ^[1-9][0-9]*$ ]] || knob net.core.wmem_max warn "$TIDEGATE_SO_SNDBUF"
# What each socket has even when those are short.
knob net.ipv4.tcp_rmem warn '4096 0 0'
knob net.ipv4.tcp_wmem warn '4096 0 0'
# A drain leaves as many behind as there were: above these they are reset, or forgotten too soon.
knob net.ipv4.tcp_max_orphans warn "$number"
knob net.ipv4.tcp_max_tw_buckets warn "$number"
# A listener that closes hands those that wait in its backlog over to another on its port.
knob net.ipv4.tcp_migrate_req warn 1
# After a restart, the old ones are still remembered while the new ones come.
knob net.netfilter.nf_conntrack_max fail "$((2 * number))"

file_of() {
  # The dots of a name are slashes of a path.
  printf '%s/sys/%s\n' "$proc" "${1//.//}"
}

# have_of NAME: its numbers, a space between; nothing where this kernel has no such setting.
have_of() {
  local values=()
  read -ra values 2>/dev/null <"$(file_of "$1")" || true
  printf '%s\n' "${values[*]}"
}

# raised HAVE NEED: the numbers of HAVE, those that are below NEED's raised to them.
raised() {
  local numbers wanted i
  read -ra numbers <<<"$1"
  read -ra wanted <<<"$2"
  for i in "${!numbers[@]}"; do
    numbers[i]=$(most "${numbers[i]}" "${wanted[i]:-0}")
  done
  printf '%s\n' "${numbers[*]}"
}

# shown NEED: a dash where any number will do.
shown() {
  local numbers
  read -ra numbers <<<"$1"
  printf '%s\n' "${numbers[*]/#0/-}"
}

fails=0 warns=0
row() {
  local name=$1 have=$2 need=$3 verdict=$4 fix=$5
  [[ $verdict != fail ]] || fails=$((fails + 1))
  [[ $verdict != warn ]] || warns=$((warns + 1))
  printf '%-32s %22s %22s  %-7s  %s\n' "$name" "$have" "$need" "$verdict" "$fix"
}

enough() {
  if [[ $1 == unlimited ]] || (($1 >= $2)); then echo ok; else echo fail; fi
}

gib() { awk -v bytes="$1" 'BEGIN { printf "%.1f GiB\n", bytes / 1073741824 }'; }

# set_knob NAME VALUE
set_knob() {
  local before
  before=$(have_of "$1")
  if { printf '%s\n' "$2" >"$(file_of "$1")"; } 2>/dev/null; then
    printf 'set %s = %s (it was %s)\n' "$1" "$2" "$before"
  else
    printf 'tune-host.sh: %s can not be set from here; in a container, set it on the host\n' "$1" >&2
  fi
}

apply_all() {
  local name have value written conf=$etc/sysctl.d/90-tidegate.conf lines=()
  for name in "${knobs[@]}"; do
    have=$(have_of "$name")
    [[ $have ]] || continue
    # What an earlier run has written stays: this one may find it set.
    written=$(sed -n "s/^$name = //p" "$conf" 2>/dev/null) || true
    value=$(raised "$(raised "$have" "${needs[$name]}")" "$written")
    [[ $value == "$have" && ! $written ]] || lines+=("$name = $value")
    [[ $value == "$have" ]] || set_knob "$name" "$value"
  done
  ((persist)) || return 0
  mkdir -p "$etc/sysctl.d"
  {
    printf '# By tune-host.sh, for %s connections.\n' "$number"
    ((${#lines[@]} == 0)) || printf '%s\n' "${lines[@]}"
  } >"$conf"
  printf 'wrote %s\n' "$conf"
  persist_files
}

# For logins; a service gets its limit from systemd.
persist_files() {
  local conf=$etc/security/limits.d/90-tidegate.conf who files=$files written nr_open
  printf 'a systemd unit needs, under [Service]: LimitNOFILE=%s\n' "$files"
  if [[ $(enough "$hard" "$files") == ok && ! -e $conf ]]; then
    return 0
  fi
  written=$(awk '$3 == "nofile" { print $4; exit }' "$conf" 2>/dev/null) || true
  files=$(most "$files" "${written:-0}")
  # With a limit above that one, nobody could log in.
  nr_open=$(have_of fs.nr_open)
  if ((${nr_open:-0} < files)); then
    printf 'tune-host.sh: fs.nr_open is still below %s: %s is not written\n' "$files" "$conf" >&2
    return 0
  fi
  mkdir -p "${conf%/*}"
  for who in '*' root; do # the * does not include root
    printf '%s soft nofile %s\n%s hard nofile %s\n' "$who" "$files" "$who" "$files"
  done >"$conf"
  printf 'wrote %s: logins have it from the next one on\n' "$conf"
}

# "Max open files", the soft limit, the hard one, the unit.
read -r _ _ _ soft hard _ < <(grep '^Max open files' "$proc/self/limits" || echo 'Max open files 0 0 files')

if ((apply)); then
  apply_all
  echo
fi

printf 'for %s connections, each %s bytes of the server and %s of the kernel\n\n' "$number" "$user_bytes" "$kernel_bytes"
printf '%-32s %22s %22s  %-7s  %s\n' '' have need verdict fix

# `tidegate serve` raises its soft limit to the hard one by itself.
row 'open files, soft limit' "$soft" - ok ''
verdict=$(enough "$hard" "$files")
fix="LimitNOFILE=$files in the systemd unit; or --persist and log in anew"
[[ $verdict != ok ]] || fix=
row 'open files, hard limit' "$hard" "$files" "$verdict" "$fix"

for name in "${knobs[@]}"; do
  need=${needs[$name]} have=$(have_of "$name")
  if [[ ! $have ]]; then
    case $name in
      net.netfilter.*) row "$name" - "$(shown "$need")" ok '' ;; # not loaded: no limit
      *) row "$name" - "$(shown "$need")" unknown 'not to be seen here: an older kernel, or a container' ;;
    esac
    continue
  fi
  value=$(raised "$have" "$need")
  if [[ $value == "$have" ]]; then
    row "$name" "$have" "$(shown "$need")" ok ''
    continue
  fi
  verdict=${shorts[$name]}
  # Loaded, but no rule has it track anything: the connection that somebody is logged in by would be.
  [[ $name != net.netfilter.* || $(have_of net.netfilter.nf_conntrack_count) != 0 ]] || verdict=warn
  [[ $value != *' '* ]] || value="'$value'"
  row "$name" "$have" "$(shown "$need")" "$verdict" "sysctl -w $name=$value"
done

# The server's port is one of many; a client has one port of its own for each connection to it.
read -r from to <<<"$(have_of net.ipv4.ip_local_port_range)"
if [[ ${to:-} ]]; then
  row net.ipv4.ip_local_port_range "$from $to" - ok \
    "for clients on this host, addresses to connect from: $(ceil "$number" "$((to - from + 1))")"
fi

# Made at boot, by memory: as for a quarter of a million. Each packet looks its connection up in it.
buckets=$(have_of net.ipv4.tcp_ehash_entries)
if [[ $buckets ]]; then
  buckets=${buckets#-} # it is another namespace's
  if ((buckets < number)); then
    row net.ipv4.tcp_ehash_entries "$buckets" "$number" warn "boot with thash_entries=$number: less CPU for each packet"
  else
    row net.ipv4.tcp_ehash_entries "$buckets" "$number" ok ''
  fi
fi

memory=$(awk '$1 == "MemTotal:" { printf "%.0f\n", $2 * 1024 }' "$proc/meminfo")
for limit in "$sys/fs/cgroup/memory.max" "$sys/fs/cgroup/memory/memory.limit_in_bytes"; do
  read -r bytes 2>/dev/null <"$limit" || continue
  [[ $bytes == max ]] || memory=$(least "$memory" "$bytes")
done
memory_need=$((number * (user_bytes + kernel_bytes) + spare_bytes))
verdict=$(enough "$memory" "$memory_need")
fix="more memory, or at most $(most 0 "$(((memory - spare_bytes) / (user_bytes + kernel_bytes)))") connections"
[[ $verdict != ok ]] || fix=
row memory "$(gib "$memory")" "$(gib "$memory_need")" "$verdict" "$fix"

# The kernel shares connections out by hash: some workers get more than others, by the square root.
share=$(awk -v each="$(ceil "$number" "$workers")" -v workers="$workers" 'BEGIN {
  more = workers > 1 ? sqrt(25 * each) : 0
  printf "%d\n", each + int(more) + (more > int(more))
}')
verdict=$(enough "$core_max" "$share")
fix="TIDEGATE_CORE_MAX_CONNECTIONS=$share, or more workers (CPUs: $cpus)"
[[ $verdict != ok ]] || fix=
row 'connections of a worker' "$core_max" "$share" "$verdict" "$fix"
governors=$(cat "$sys"/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor 2>/dev/null | sort -u | paste -sd, -) || true
case $governors in
  '' | performance) row 'CPU governor' "${governors:-none}" - ok '' ;;
  *) row 'CPU governor' "$governors" performance warn 'cpupower frequency-set -g performance: steadier latency' ;;
esac

echo
warnings=
((warns == 0)) || warnings=" ($warns could be better)"
if ((fails)); then
  printf 'NOT ENOUGH: %s of these for %s connections%s\n' "$fails" "$number" "$warnings"
  exit 1
fi
printf 'ENOUGH for %s connections%s\n' "$number" "$warnings"
