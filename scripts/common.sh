# shellcheck shell=bash
# Sourced by the scripts here: builds, starts processes, and ends those that it started.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # the scripts use it
peers=$root/benches/peers/target/release
tidegate=${TIDEGATE:-$root/target/release/tidegate}
work=$(mktemp -d)
started=()

# Whatever happens, what was started is ended, by its own id, and the temporary files go.
clean_up() {
  local code=$? pid
  trap - EXIT
  for pid in "${started[@]}"; do
    if kill -TERM "$pid" 2>/dev/null; then
      wait "$pid" 2>/dev/null || true
    fi
  done
  [[ -n ${keep_work:-} ]] || rm -rf "$work"
  exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# The path of a browser: $CHROMIUM, or one that is there, or that is installed now.
browser() {
  local found=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
  if [[ -z $found ]]; then
    echo 'installing chromium' >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >&2
    found=$(command -v chromium) || fail 'chromium is not there after its installation'
  fi
  echo "$found"
}

# build_tidegate: the server, unless TIDEGATE names one.
build_tidegate() {
  if [[ -z ${TIDEGATE:-} ]]; then
    compile "$root/Cargo.toml"
  fi
}

# build: the server, unless TIDEGATE names one, and what measures it.
build() {
  build_tidegate
  compile "$root/benches/peers/Cargo.toml"
}

# compile MANIFEST OPTIONS...: its messages are of interest only when it fails.
compile() {
  cargo build --quiet --release --locked --manifest-path "$@" 2>"$work/build.err" || {
    cat "$work/build.err" >&2
    fail "$1 does not build"
  }
}

# start NAME COMMAND...: runs it in the background; its id is in $pid, its first line in $line, and
# the rest of its output can be read from descriptor $out. Errors go to $work/NAME.err. Its input is
# the file $input, if set; that line is waited for $patience seconds, 20 if not set.
start() {
  local name=$1
  shift
  rm -f "$work/$name.pipe"
  mkfifo "$work/$name.pipe"
  "$@" >"$work/$name.pipe" 2>"$work/$name.err" <"${input:-/dev/null}" &
  pid=$!
  started+=("$pid")
  exec {out}<"$work/$name.pipe"
  IFS= read -r -t "${patience:-20}" line <&"$out" || {
    cat "$work/$name.err" >&2
    fail "$name said nothing: it did not start"
  }
}

# ended PID: it was waited for; there is nothing left to end.
ended() {
  local gone=$1 pid left=()
  for pid in "${started[@]}"; do
    [[ $pid == "$gone" ]] || left+=("$pid")
  done
  started=("${left[@]}")
}

# stop PID: ends it, and waits until it has ended.
stop() {
  kill -TERM "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
  ended "$1"
}

# start_tidegate DATA_DIR: the server, settings from the environment, on $listen if set; its address is
# in $address, and that of its admin port, which it has if $listen_admin is set, in $admin.
start_tidegate() {
  TIDEGATE_LISTEN=${listen:-127.0.0.1:0} TIDEGATE_ADMIN=${listen_admin:-off} TIDEGATE_LOG=${TIDEGATE_LOG:-warn} TIDEGATE_DATA_DIR=$1 \
    start tidegate "$tidegate" serve
  [[ $line =~ ^tidegate\ [^\ ]+\ listens\ on\ ([^\;,]+) ]] || fail "no address in tidegate's first line: $line"
  # shellcheck disable=SC2034 # the scripts use it
  address=${BASH_REMATCH[1]}
  # shellcheck disable=SC2034 # the scripts use it
  admin=${line##*http://}
}

# field NAME LINE: the value of NAME=value in LINE.
field() {
  [[ " $2 " =~ \ $1=([^ ]*)\  ]] || fail "no $1 in: $2"
  printf '%s\n' "${BASH_REMATCH[1]}"
}

# of_numbers WHAT FILE: `median`, `best` (the least) or `most` of the numbers in FILE, one a line.
of_numbers() {
  sort -n "$2" | awk -v what="$1" '
    { n[NR] = $1 }
    END {
      if (NR == 0) exit 1
      if (what == "best") print n[1]
      else if (what == "most") print n[NR]
      else print NR % 2 ? n[(NR + 1) / 2] : (n[NR / 2] + n[NR / 2 + 1]) / 2
    }'
}

# at_most A B: whether the number A is not above B.
at_most() {
  awk -v a="$1" -v b="$2" 'BEGIN { exit !(a <= b) }'
}

ratio() {
  awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", a / b }'
}
