#!/usr/bin/env bash
# Shows the load generator's pages in a real browser, and checks what it makes of them.
#
#   scripts/page.sh
#
# For each sample report, at the width of a phone, a tablet and a desk: no error of a script, no
# request to anywhere, the page not wider than the window, one size of each chart shown, no two labels
# of a chart on top of each other, the read-outs under the pointer, and what has to be written there.
# Environment: CHROMIUM=path of the browser, installed from apt if there is none; KEEP=DIR keeps the
# pages, and pictures of them.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

chromium=$(browser)

# browse FILE OPTIONS...: its output is on stdout, its log in $work/browser.err.
browse() {
  local file=$1
  shift
  # A proxy that nobody listens at: a request that got past the page's own policy would fail, and be logged.
  timeout 60 "$chromium" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
    --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars \
    --proxy-server=127.0.0.1:9 --enable-logging=stderr --v=0 --user-data-dir="$work/profile" \
    "$@" "file://$file" 2>"$work/browser.err"
}

pages=$work/pages
mkdir "$pages"
SAMPLE_PAGES=$pages cargo test --quiet --locked --manifest-path "$root/Cargo.toml" --lib -- \
  --exact --ignored load::html::tests::the_samples_are_written_as_pages >"$work/cargo" 2>&1 || {
  cat "$work/cargo" >&2
  fail 'the sample pages can not be written'
}
# Cargo is content with no test at all.
[[ -s $pages/success.html ]] || fail 'no page was written: has the test another name?'

failed=0
wrong() {
  printf 'FAILED  %s\n' "$*" >&2
  failed=$((failed + 1))
}

# Appended to a page, it asks the browser, and tells the page around it.
cat >"$work/probe.html" <<'PROBE'
<script>
addEventListener('load', () => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const charts = all('svg.chart').filter((svg) => svg.getClientRects().length);
  const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
  const meeting = charts.flatMap((svg) => {
    const texts = all('text', svg).map((text) => [text.textContent, text.getBoundingClientRect()]);
    return texts.flatMap(([name, a], at) => texts.slice(at + 1)
      .filter(([, b]) => meet(a, b)).map(([other]) => `${name} / ${other}`));
  });
  for (const svg of charts) {
    const box = svg.getBoundingClientRect();
    svg.dispatchEvent(new PointerEvent('pointermove', { clientX: box.left + box.width / 2, clientY: box.top }));
  }
  const read = all('.read').filter((read) => !read.textContent).length
    + charts.filter((svg) => !svg.querySelector('.cursor')?.getAttribute('d')).length;
  parent.postMessage({
    width: `${root.scrollWidth} of ${innerWidth}`,
    requests: performance.getEntriesByType('resource').map((entry) => entry.name).join(' ') || 'none',
    charts: `${charts.length} of ${all('figure').length}`,
    meet: meeting.join(', ') || 'none',
    silent: `${read}`,
    foreign: `${document.scripts.length - 2 + all('img, iframe, b').length}`,
    text: document.querySelector('main').textContent.replace(/\s+/g, ' '),
  }, '*');
});
</script>
PROBE

# Around a page: a frame for each width, because no window gets as narrow as a phone.
cat >"$work/frames.html" <<'FRAMES'
<!doctype html>
<script>
addEventListener('message', ({ source, data }) => {
  const width = [...document.querySelectorAll('iframe')].find((frame) => frame.contentWindow === source).width;
  for (const [name, value] of Object.entries(data)) document.documentElement.dataset[name + width] = value;
});
</script>
<iframe src="probed.html" width="390" height="1800"></iframe>
<iframe src="probed.html" width="700" height="1800"></iframe>
<iframe src="probed.html" width="1280" height="1800"></iframe>
FRAMES

# answer NAME: what the probe found in page $name at $width.
answer() {
  sed -n "1,/<head/s/.* data-$1$width=\"\([^\"]*\)\".*/\1/p" "$work/$name.dom" | head -1
}

names=(success restart bad nothing single long huge)
views=0
for name in "${names[@]}"; do
  cat "$pages/$name.html" "$work/probe.html" >"$work/probed.html"
  # Time runs as fast as the page's work allows, and the frames' answers are there before it is over.
  browse "$work/frames.html" --window-size=1400,1800 --virtual-time-budget=5000 --dump-dom >"$work/$name.dom" || {
    cat "$work/browser.err" >&2
    fail "the browser does not show $name"
  }
  if grep -E 'CONSOLE|net::ERR' "$work/browser.err" >"$work/said"; then
    wrong "$name: $(head -1 "$work/said")"
  fi
  for width in 390 700 1280; do
    views=$((views + 1))
    at="$name at $width"
    [[ $(answer width) == "$width of $width" ]] || wrong "$at: its width is $(answer width)"
    [[ $(answer requests) == none ]] || wrong "$at: it asks for $(answer requests)"
    charts=$(answer charts)
    [[ -n $charts && ${charts% of *} == "${charts#* of }" ]] || wrong "$at: charts shown: $charts"
    [[ $name == huge || $(answer meet) == none ]] || wrong "$at: labels meet: $(answer meet)"
    [[ $(answer foreign) == 0 ]] || wrong "$at: text from outside became markup"
    [[ $(answer silent) == 0 ]] || wrong "$at: something is not read out under the pointer: $(answer silent)"
  done
done

# has PAGE TEXT: it can be read there.
has() {
  local name=$1 width=1280
  answer text | grep -qF -- "$2" || wrong "$1: no '$2'"
}
has success 'Nothing was lost All 2,900,928 requests answered.'
has restart 'They agree.'
has bad '17 requests LOST'
has bad 'The generator was saturated.'
has bad 'handler panicked'
has single 'Nothing was lost'
has nothing 'nothing was measured'

if [[ -n ${KEEP:-} ]]; then
  mkdir -p "$KEEP"
  cp "$pages"/* "$KEEP"
  for name in success restart bad; do
    for width in 1280 390; do
      browse "$pages/$name.html" --screenshot="$KEEP/$name-$width.png" --window-size="$width,4200"
      browse "$pages/$name.html" --screenshot="$KEEP/$name-$width-dark.png" --window-size="$width,4200" \
        --blink-settings=preferredColorScheme=0
    done
  done
fi

if ((failed)); then
  echo "FAILED: $failed complaints about $views views"
  exit 1
fi
echo "PASSED: $views views of ${#names[@]} pages, in $("$chromium" --version 2>/dev/null)"
