#!/usr/bin/env bash
# Instructions of each micro benchmark's frame, against the baseline: the same on a busy machine.
#
#   scripts/instructions.sh [NAME...]        fails where one takes over 5 % more than the baseline has
#   scripts/instructions.sh --save           makes what they take now the baseline: commit it
#
# The build is the shipped one (release: fat LTO, one codegen unit): what another profile saves or
# spends says little about it. Only what is in a batch is counted, not the start and not the set-up;
# system calls count as one instruction. Look into a workload with
# `callgrind_annotate target/instructions/NAME.out`.
# Environment: PERCENT=5 (more than this, in per cent, fails), BASELINE=benches/instructions.tsv.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export LC_ALL=C
percent=${PERCENT:-5}
baseline=${BASELINE:-$root/benches/instructions.tsv}
[[ $baseline == /* ]] || baseline=$PWD/$baseline
outs=$root/target/instructions
save=0
if [[ ${1:-} == --save ]]; then
  save=1
  shift
  (($# == 0)) || fail "--save is for all workloads: no name with it"
fi
[[ ${1:-} != -* ]] || fail "it knows --save and workloads' names, not '$1'"

if ! command -v valgrind >/dev/null; then
  printf 'installing valgrind\n' >&2
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends valgrind libc6-dbg >/dev/null
fi

# What others' settings would make of the program is not what is shipped.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS "${!CARGO_PROFILE_@}"
# The features are left out: they are not in what is measured, and take long to build.
cd "$root"
cargo bench --quiet --locked --no-default-features --bench frames --no-run --message-format=json \
  >"$work/build.json" 2>"$work/build.err" || {
  cat "$work/build.err" >&2
  fail "the benchmarks do not build"
}
program=$(grep -o '"executable":"[^"]*"' "$work/build.json" | tail -1 | cut -d'"' -f4)
[[ -x $program ]] || fail "cargo named no program in $work/build.json"
mkdir -p "$outs"
cp "$program" "$outs/frames"
# From here on nothing depends on where the checkout is, or on the environment: both would be on the
# program's stack, and move it. And the C library takes the memcpy that every CPU has.
cd "$outs"
valgrind=$(command -v valgrind)
bare_env=(env -i 'GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-ERMS')

# count NAME: its instructions a frame, into $work/NAME.
count() {
  local name=$1 frames instructions
  frames=$("${bare_env[@]}" "$valgrind" --tool=callgrind --quiet --callgrind-out-file="$name.out" \
    --collect-atstart=no --toggle-collect='*measured_batch*' ./frames --count "$name" 2>"$work/$name.err") || {
    cat "$work/$name.err" >&2
    fail "$name ended badly under valgrind"
  }
  instructions=$(awk '$1 == "summary:" { print $2 }' "$name.out")
  ((${instructions:-0} > 0 && frames > 0)) || fail "$name: nothing was counted: is measured_batch still there?"
  awk -v i="$instructions" -v f="$frames" 'BEGIN { printf "%.2f\n", i / f }' >"$work/$name"
}

mapfile -t all < <(./frames --list)
names=()
for name in "${all[@]}"; do
  (($# > 0)) || names+=("$name")
  for part in "$@"; do
    [[ $name != *"$part"* ]] || { names+=("$name") && break; }
  done
done
((${#names[@]} > 0)) || fail "no workload has that in its name; there are: ${all[*]}"

# As many at a time as there are CPUs: the count does not mind.
running=() uncounted=0
for name in "${names[@]}"; do
  if ((${#running[@]} == $(nproc))); then
    wait "${running[0]}" || uncounted=1
    running=("${running[@]:1}")
  fi
  count "$name" &
  running+=("$!")
done
for pid in "${running[@]}"; do wait "$pid" || uncounted=1; done
((uncounted == 0)) || exit 1

made_with="$(rustc --version), $(rustc -vV | awk '$1 == "host:" { print $2 }'), $(getconf GNU_LIBC_VERSION), $(valgrind --version)"
baseline_with=$(sed -n '1s/^# Instructions a frame: //p' "$baseline" 2>/dev/null) || true
((save)) || [[ $baseline_with ]] || fail "$baseline is no baseline: make one with scripts/instructions.sh --save"

# verdict NOW BEFORE: the change in per cent, and what it is called.
verdict() {
  awk -v now="$1" -v before="$2" -v percent="$percent" 'BEGIN {
    change = (now / before - 1) * 100
    printf("%+.1f%%%s\n", change, change > percent ? "  WORSE" : change < -percent ? "  better" : "")
  }'
}
worse=0 better=0 new=0
printf '%-24s %10s %10s %8s\n' 'instructions a frame' now baseline change
for name in "${names[@]}"; do
  now=$(<"$work/$name")
  before=$(awk -v name="$name" '$1 == name { print $2 }' "$baseline" 2>/dev/null) || true
  said=new
  if [[ $before ]]; then
    said=$(verdict "$now" "$before")
  fi
  case $said in
    new) new=$((new + 1)) ;;
    *WORSE) worse=$((worse + 1)) ;;
    *better) better=$((better + 1)) ;;
  esac
  printf '%-24s %10s %10s %8s%s\n' "$name" "$now" "${before:--}" "${said%% *}" "${said#"${said%% *}"}"
done
echo
if ((save)); then
  {
    printf '# Instructions a frame: %s\n' "$made_with"
    for name in "${all[@]}"; do printf '%s\t%s\n' "$name" "$(<"$work/$name")"; done
  } >"$baseline"
  printf 'This is the baseline now: commit %s\n' "${baseline#"$root/"}"
  exit 0
fi
if [[ $made_with != "$baseline_with" ]]; then
  printf 'Differences may be the tools'\'': this is  %s\n              the baseline was made with  %s\n' \
    "$made_with" "$baseline_with"
fi
update='update the baseline with scripts/instructions.sh --save'
((better == 0)) || printf '%s got over %s %% better: %s\n' "$better" "$percent" "$update"
if [[ $baseline_with != *", ${HOSTTYPE}-"* ]]; then
  printf 'NOTHING TO COMPARE: the baseline is of another kind of CPU than this, %s\n' "$HOSTTYPE"
elif ((worse)); then
  printf 'FAILED: %s over %s %% worse. If that is meant, %s\n' "$worse" "$percent" "$update"
  exit 1
elif ((new)); then
  printf 'FAILED: %s without a baseline: %s\n' "$new" "$update"
  exit 1
else
  printf 'PASSED: none over %s %% worse\n' "$percent"
fi
