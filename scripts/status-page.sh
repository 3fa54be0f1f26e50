#!/usr/bin/env bash
# Shows the admin port's live page in a real browser, and checks what it shows.
#
#   scripts/status-page.sh
#
# At rest, under load, in a drain until the server has gone, and where a token is wanted; light and dark,
# at the width of a desk and of a phone: no error of a script, no request to anywhere else, nothing wider
# than the window, and the numbers that have to be there. Pictures are kept in target/status-page.
# Environment: CHROMIUM=path of the browser, installed from apt if there is none.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

chromium=$(browser)
pictures=$root/target/status-page
rm -rf "$pictures"
mkdir -p "$pictures"
# One after the other: a page that has to wait for the processor looks like one that hangs.
CHROMIUM=$chromium PICTURES=$pictures cargo test --quiet --locked --all-features --test it -- \
  --ignored --test-threads 1 page::

# Cargo is content with no test at all.
for name in rest load trouble notice finish gone door; do
  for view in light dark phone phone-dark; do
    [[ -s $pictures/$name-$view.png ]] || {
      echo "status-page.sh: there is no picture $name-$view.png: has a test another name?" >&2
      exit 1
    }
  done
done
echo "PASSED: the page at rest, under load, in a drain and behind its door, in $("$chromium" --version 2>/dev/null)"
