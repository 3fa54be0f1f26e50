// What is on the page. Text goes in as text, whatever it says; nothing here is made of markup.

const SVG = 'http://www.w3.org/2000/svg';
const PHASES = ['announce', 'gate', 'notice', 'finish', 'flush', 'persist'];
const SIGNS = {
  waiting: 'M7 12h10',
  good: 'M6.5 12.5l3.8 3.8 7.2-8.3',
  draining: 'M12 6.5v10M7.8 12.6l4.2 4.2 4.2-4.2',
  doubtful: 'M12 6v7.5M12 17.4v.1',
  bad: 'M7.5 7.5l9 9M16.5 7.5l-9 9',
};

const $ = (id) => document.getElementById(id);

/// Sets a text if it is another one: what is read aloud is read once.
function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function make(name, text, className) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function path(className) {
  const node = document.createElementNS(SVG, 'path');
  node.setAttribute('class', className);
  return node;
}

/// A bar that is filled to this share.
function fill(bar, share) {
  bar.style.transform = `scaleX(${Math.min(Math.max(share || 0, 0), 1)})`;
}

/// A line of the last two minutes, from 0 up. Where nothing is known there is no line.
function spark(svg, values, least = 1) {
  if (!svg.firstChild) {
    svg.setAttribute('viewBox', '0 0 120 34');
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('aria-hidden', 'true');
    svg.append(path('base'), path('area'), path('line'));
    svg.firstChild.setAttribute('d', 'M0 33.5H120');
  }
  const top = Math.max(least, ...values.filter((value) => value !== null));
  let [line, area, run] = ['', '', []];
  const end = () => {
    if (!run.length) return;
    const points = run.map(([x, y]) => `${x} ${y}`).join('L');
    line += run.length > 1 ? `M${points}` : `M${points}h.01`;
    area += `M${run[0][0]} 33.5L${points}V33.5Z`;
    run = [];
  };
  values.forEach((value, at) => {
    if (value === null) return end();
    run.push([120 - (values.length - 1 - at), (33 - (value / top) * 31).toFixed(1)]);
  });
  end();
  svg.children[1].setAttribute('d', area);
  svg.children[2].setAttribute('d', line);
}

/// Rows of a table body: a list of cells each, a text or a node, kept where they have not changed.
function rows(table, wanted) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  while (body.rows.length > wanted.length) body.deleteRow(-1);
  wanted.forEach((cells, at) => {
    const row = body.rows[at] ?? body.insertRow();
    cells.forEach((cell, column) => {
      if (!row.cells[column]) {
        const node = make(column ? 'td' : 'th', undefined, heads[column]?.className);
        if (!column) node.scope = 'row';
        row.append(node);
      }
      if (cell instanceof Node) {
        if (row.cells[column].firstChild !== cell) row.cells[column].replaceChildren(cell);
      } else {
        put(row.cells[column], cell);
      }
    });
  });
}

function drawVerdict({ grade, head, text, notes }) {
  const box = $('verdict');
  if (!box.classList.contains(grade)) {
    box.className = `verdict ${grade}`;
    $('sign').setAttribute('d', SIGNS[grade]);
    const colour = getComputedStyle(box).color;
    const dot = `<svg xmlns="${SVG}" viewBox="0 0 8 8"><circle cx="4" cy="4" r="4" fill="${colour}"/></svg>`;
    $('icon').href = `data:image/svg+xml,${encodeURIComponent(dot)}`;
  }
  put($('verdict-head'), head);
  put($('verdict-text'), text);
  const list = $('verdict-notes');
  if ([...list.children].map((item) => item.textContent).join('\n') !== notes.join('\n')) {
    list.replaceChildren(...notes.map((note) => make('li', note)));
  }
}

function drawHead(status) {
  put($('name'), status.service_id);
  put($('version'), ` ${status.version}`);
  put($('where'), `${status.listen.join(', ')}\nup ${long(status.uptime_s)}`);
  put($('build'), `tidegate ${status.version}, commit ${status.commit}, features ${status.features.join(' ')}.`);
}

function drawTiles({ samples, now }) {
  const { status } = now;
  const { totals } = status;
  put($('connections'), n(now.connections));
  put($('connections-sub'), now.accepts ? `${perSecond(now.accepts)} accepted / s` : `${n(totals.sessions)} sessions`);
  spark($('connections-line'), samples.map((sample) => sample.connections));
  put($('rate'), perSecond(now.rate));
  put($('rate-sub'), `${n(totals.in_flight)} in flight, peak ${perSecond(largest(samples.map((sample) => sample.rate)))}`);
  spark($('rate-line'), samples.map((sample) => sample.rate));
  put($('errors'), perSecond(now.errors));
  $('errors').className = now.errors > 0.05 * now.rate ? 'bad-text' : '';
  put($('errors-sub'), `${compact(totals.failed)} since the start`);
  spark($('errors-line'), samples.map((sample) => sample.errors));
  drawLatency(samples, now);
  const busiest = (sample) => largest(sample.workers.map((worker) => worker.busy));
  const busy = busiest(now);
  put($('busy'), percent(busy));
  $('busy').className = busy > 0.9 ? 'bad-text' : '';
  put($('busy-sub'), now.cpu === null ? '' : `process ${percent(now.cpu)} of a CPU`);
  spark($('busy-line'), samples.map(busiest), 1);
  put($('memory'), now.rss === null ? '–' : bytes(now.rss));
  // Below, what is there without any connection is most of it.
  const each = now.connections >= 50_000 && now.rss !== null;
  put($('memory-sub'), each ? `${bytes(now.rss / now.connections)} a connection` : 'resident');
  spark($('memory-line'), samples.map((sample) => sample.rss));
}

/// How long the application's handlers take; without any, how long a worker is away from its sockets.
function drawLatency(samples, now) {
  const handled = now.status.latency.count > 0;
  const worst = (sample) => largest(sample.workers.map((worker) => worker.turn));
  put($('latency-name'), handled ? 'handlers, p99' : 'turn of the loop');
  put($('latency'), brief(handled ? now.p99 : worst(now)));
  const idle = handled ? 'none was called' : 'nothing to do';
  const sub = handled ? `p50 ${brief(now.p50)}` : 'mean, slowest core';
  put($('latency-sub'), (handled ? now.p50 : worst(now)) === null ? idle : sub);
  spark($('latency-line'), samples.map(handled ? (sample) => sample.p99 : worst), 1e-4);
}

const coreLines = [];

function drawCores({ samples, now }) {
  const most = Math.max(...now.status.workers.map((worker) => worker.stats.connections_open), 1);
  rows($('cores'), now.status.workers.map((worker, index) => {
    const { stats } = worker;
    const own = now.workers[index];
    const line = coreLines[index] ??= {
      rate: document.createElementNS(SVG, 'svg'), share: withBar(), busy: withBar(),
    };
    line.rate.setAttribute('class', 'spark a');
    spark(line.rate, samples.map((sample) => sample.workers[index]?.rate ?? null));
    fillCell(line.share, stats.connections_open / most, n(stats.connections_open));
    fillCell(line.busy, own.busy, percent(own.busy));
    line.busy.firstChild.className = own.busy > 0.9 ? 'bar busy-high' : 'bar';
    const tick = worker.alive ? ago(worker.last_tick_ms_ago / 1000) : 'not running';
    return [
      String(worker.worker), String(worker.cpu ?? '–'), line.share, perSecond(own.rate), line.rate, line.busy,
      n(stats.in_flight), speed(own.in), speed(own.out), perSecond(own.errors), tick,
    ];
  }));
}

const speed = (rate) => (rate === null ? '–' : `${bytes(rate)}/s`);

/// A cell's content: a bar, and a text behind it.
function withBar() {
  const cell = make('span');
  const bar = make('span', undefined, 'bar');
  bar.append(make('i'));
  cell.append(bar, make('span'));
  return cell;
}

function fillCell(cell, share, text) {
  fill(cell.firstChild.firstChild, share);
  put(cell.lastChild, text);
}

function drawRequests({ samples, now }) {
  const before = samples.at(-2);
  const seconds = before ? now.at - before.at : 0;
  const all = ({ answered, failed }) => answered + failed;
  const served = now.status.requests.filter(all).sort((a, b) => all(b) - all(a));
  rows($('requests'), served.length ? served.map((of) => {
    const past = before?.status.requests.find(({ cmd }) => cmd === of.cmd);
    return [of.name ? `${of.name} ${of.cmd}` : of.cmd, perSecond(seconds > 0 ? (all(of) - (past ? all(past) : 0)) / seconds : null), n(of.answered), n(of.failed)];
  }) : [['none yet', '', '', '']]);
  for (const row of $('requests').tBodies[0].rows) {
    const [command, , , failed] = row.cells;
    command.className = served.length ? '' : 'none';
    failed.className = failed.textContent === '0' ? 'none' : '';
  }
}

function drawCauses(history) {
  const { status } = history.now;
  const kinds = { refusals: 'turned away', faults: 'the client\'s fault', cuts: 'cut' };
  const found = Object.entries(kinds).flatMap(([kind, name]) => Object.entries(status[kind])
    .filter(([, count]) => count)
    .map(([cause, count]) => [
      `${cause.replaceAll('_', ' ')} (${name})`,
      n(history.grown((of) => of[kind][cause])), n(count),
    ]));
  rows($('causes'), found.length ? found : [['none', '', '']]);
  $('causes').tBodies[0].rows[0].cells[0].className = found.length ? '' : 'none';
}

const facts = new Map();

/// A name and a value, with a bar where it is a share of something.
function fact(name, text, share, list = $('process')) {
  if (!facts.has(name)) {
    const [group, value] = [make('div'), make('dd')];
    const bar = make('div', undefined, 'bar');
    bar.append(make('i'));
    value.append(make('span'), bar);
    group.append(make('dt', name), value);
    list.append(group);
    facts.set(name, value);
  }
  const value = facts.get(name);
  put(value.firstChild, text);
  value.lastChild.hidden = share === undefined;
  fill(value.lastChild.firstChild, share);
  value.lastChild.className = share > 0.8 ? 'bar busy-high' : 'bar';
}

function drawProcess({ now }) {
  const { process, pool, totals, started, pid } = now.status;
  const sum = (of) => now.workers.reduce((all, worker) => all + (of(worker) ?? 0), 0);
  const { open_fds: open, max_fds: most } = process;
  if (open !== null) {
    fact('open files', most === null ? n(open) : `${n(open)} of ${n(most)}`, most === null ? undefined : open / most);
  }
  fact('blocking pool', `${n(pool.busy)} of ${plural(pool.threads, 'thread')} busy`, pool.busy / pool.threads);
  fact('waiting for it', `${n(pool.queued)} of ${n(pool.queue)}`, pool.queued / pool.queue);
  fact('traffic in', speed(now.rate === null ? null : sum((worker) => worker.in)));
  fact('traffic out', speed(now.rate === null ? null : sum((worker) => worker.out)));
  fact('sessions', `${n(totals.sessions)}, ${n(totals.sessions_resumed)} resumed`);
  fact('AUTH refused', n(totals.auth_failures));
  fact('connections lost', `${n(totals.connections_lost)}, ${n(totals.connections_reset)} reset`);
  fact('process', String(pid));
  fact('started', started.replace('T', ' ').replace(/\.\d+Z$/, ' UTC'));
}

function drawDrain({ drain }) {
  const at = PHASES.indexOf(drain.phase);
  $('drain').hidden = at < 0;
  if (at < 0) return;
  put($('drain-reason'), drain.reason ? `by ${drain.reason}` : '');
  let behind = 0;
  for (const item of $('phases').children) {
    const { phase } = item.dataset;
    const place = PHASES.indexOf(phase);
    const took = drain.phases[`${phase}_ms`] ?? 0;
    item.className = place < at ? 'done' : place === at ? 'now' : 'todo';
    if (place === at) item.setAttribute('aria-current', 'step');
    else item.removeAttribute('aria-current');
    if (place < at) behind += took;
    const shown = { done: took, now: Math.max(drain.elapsed_ms - behind, 0) }[item.className];
    put(item.lastElementChild, shown === undefined ? '' : phaseTime(shown));
  }
  const { connections_left: left, connections_at_begin: begin } = drain;
  put($('left-connections'), n(left));
  put($('left-connections-text'), `of ${plural(Math.max(begin, left), 'connection')} left, ${plural(drain.requests_in_flight, 'request')} in flight`);
  fill($('left-connections-bar'), left / Math.max(begin, left, 1));
  put($('left-time'), phaseTime(drain.left_ms));
  fill($('left-time-bar'), drain.left_ms / (drain.left_ms + drain.elapsed_ms || 1));
  drawLedger(drain.ledger);
}

function drawLedger(ledger) {
  for (const cell of $('ledger').querySelectorAll('dd')) {
    const value = ledger[cell.dataset.ledger] ?? 0;
    put(cell, n(value));
    cell.className = value === 0 ? 'zero' : cell.dataset.ledger === 'cut' ? 'bad' : '';
  }
  const state = $('ledger-state');
  put(state, ledger.balanced ? 'it balances' : 'it does not balance');
  state.className = ledger.balanced ? 'good' : 'bad';
  put($('ledger-rest'), `${plural(ledger.connections, 'connection')} served, ${n(ledger.refused)} refused, ${n(ledger.connections_cut)} cut; `
    + `${plural(ledger.undelivered, 'answer')} whose client was gone.`);
}

function drawList(list) {
  const found = list.connections;
  $('list').hidden = !found.length;
  rows($('list'), found.map((row) => [
    row.principal ?? '–', row.peer ?? '–', row.state, ago(row.idle_s), n(row.in_flight),
    row.queued_bytes ? bytes(row.queued_bytes) : '0', String(row.worker), row.session ?? '–',
  ]));
  const missing = [
    list.truncated && 'there are more',
    list.silent_workers.length && `no answer from worker ${list.silent_workers.join(', ')}`,
  ].filter(Boolean);
  put($('who-note'), `${plural(found.length, 'connection')}${missing.length ? `; ${missing.join('; ')}` : ''}.`);
}
