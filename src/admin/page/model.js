// What the page makes of what the server says: numbers, rates, and words for them. No document here.

const KEPT = 121; // two minutes and the moment before
const MINUTE = 60;

const number = new Intl.NumberFormat('en');
const n = (value) => number.format(Math.round(value));
const part = (value, digits) => (value >= 100 ? value.toFixed(0) : value.toPrecision(digits));

/// The largest of what is known; nothing, when nothing is.
function largest(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? Math.max(...known) : null;
}

/// A rate: all digits while they can be read at a glance.
function perSecond(value) {
  if (value === null) return '–';
  if (value >= 99_950) return compact(value);
  if (value >= 10 || Number.isInteger(value)) return n(value);
  return value < 0.05 ? '0' : value.toFixed(1);
}

function compact(value) {
  for (const [size, unit] of [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) {
    if (value >= size * 0.9995) return part(value / size, 3) + ' ' + unit;
  }
  return n(value);
}

function bytes(value) {
  for (const [size, unit] of [[2 ** 40, 'TiB'], [2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB']]) {
    if (value >= size) return part(value / size, 3) + ' ' + unit;
  }
  return n(value) + ' B';
}

/// A short time, from seconds.
function brief(seconds) {
  if (seconds === null) return '–';
  if (seconds < 1e-3) return part(seconds * 1e6, 2) + ' µs';
  if (seconds < 1) return part(seconds * 1e3, 3) + ' ms';
  return seconds < 100 ? part(seconds, 3) + ' s' : long(seconds);
}

/// How long ago something was, from seconds.
const ago = (seconds) => (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : long(seconds));

/// A phase's time, from milliseconds.
const phaseTime = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`);

/// A long time, from seconds: its two largest units.
function long(seconds) {
  const units = [['d', 86_400], ['h', 3600], ['min', 60], ['s', 1]];
  const at = Math.max(units.findIndex(([, size]) => seconds >= size), 0);
  const [[name, size], next] = [units[seconds >= 1 ? at : 3], units[at + 1]];
  const rest = next && Math.floor((seconds % size) / next[1]);
  return `${Math.floor(seconds / size)} ${name}${rest ? ` ${rest} ${next[0]}` : ''}`;
}

const percent = (share) => (share === null ? '–' : `${share >= 0.0005 && share < 0.1 ? (share * 100).toFixed(1) : Math.round(share * 100)} %`);
const plural = (count, what) => `${n(count)} ${what}${count === 1 ? '' : 's'}`;

/// The value below which this share of what was counted lies; nothing, when nothing was counted.
function quantile(bounds, counts, share) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (!all) return null;
  let left = share * all;
  for (let at = 0; at < counts.length; at += 1) {
    if (left <= counts[at]) {
      const low = at ? bounds[at - 1] : 0;
      // Nobody knows how far what is over the last bound is over it.
      return at < bounds.length ? low + ((bounds[at] - low) * left) / counts[at] : low;
    }
    left -= counts[at];
  }
  return bounds.at(-1);
}

const minus = (after, before) => after.map((count, at) => count - before[at]);

/// What a worker did between two looks: the share of its time that it did not wait, and how long a turn of
/// its loop took it, in the mean.
function workOf(after, before) {
  if (!before) return { busy: null, turn: null };
  const spent = (step) => after.seconds[step] - before.seconds[step];
  const all = Object.keys(after.seconds).reduce((sum, step) => sum + spent(step), 0);
  const work = Math.max(all - spent('poll'), 0);
  const turns = after.stats.ticks - before.stats.ticks;
  return { busy: all > 0 ? Math.min(work / all, 1) : null, turn: turns > 0 ? work / turns : null };
}

/// One look at the server, and what has happened since the one before.
function sampleOf(status, before) {
  const past = before?.status;
  const seconds = past ? status.uptime_s - past.uptime_s : 0;
  const rate = (after, name) => (seconds > 0 ? Math.max(after(status)[name] - after(past)[name], 0) / seconds : null);
  const totals = (of) => of.totals;
  const handled = past ? minus(status.latency.counts, past.latency.counts) : null;
  return {
    status,
    at: status.uptime_s,
    connections: status.totals.connections_open,
    rate: seconds > 0 ? rate(totals, 'answered') + rate(totals, 'failed') : null,
    errors: rate(totals, 'failed'),
    accepts: rate(totals, 'connections_accepted'),
    p50: handled && quantile(status.latency.bounds_s, handled, 0.5),
    p99: handled && quantile(status.latency.bounds_s, handled, 0.99),
    rss: status.process.rss_bytes,
    cpu: seconds > 0 ? (status.process.cpu_seconds - past.process.cpu_seconds) / seconds : null,
    workers: status.workers.map((worker, index) => {
      const own = (of) => of.workers[index].stats;
      return {
        rate: seconds > 0 ? rate(own, 'answered') + rate(own, 'failed') : null,
        errors: rate(own, 'failed'),
        in: rate(own, 'bytes_in'),
        out: rate(own, 'bytes_out'),
        ...workOf(worker, past?.workers[index]),
      };
    }),
  };
}

/// The looks at one server, the newest last.
class Past {
  samples = [];

  /// Adds a look. One at another process begins anew.
  add(status) {
    const last = this.samples.at(-1)?.status;
    if (last && (last.pid !== status.pid || last.started !== status.started)) this.samples = [];
    this.samples.push(sampleOf(status, this.samples.at(-1)));
    if (this.samples.length > KEPT) this.samples.shift();
    return this.now;
  }

  get now() {
    return this.samples.at(-1);
  }

  /// By how much a number has grown in the last minute, as far as this page has seen it.
  grown(of) {
    const now = this.now;
    const first = this.samples.find((sample) => now.at - sample.at <= MINUTE);
    return Math.max((of(now.status) ?? 0) - (of(first.status) ?? 0), 0);
  }

  /// The mean of a value over the last `count` looks that have it.
  mean(of, count) {
    const values = this.samples.slice(-count).map(of).filter((value) => value !== null);
    return values.length < count ? null : values.reduce((sum, value) => sum + value, 0) / count;
  }
}

/// What an operator should look at, in sentences.
function complaints(history) {
  const { status } = history.now;
  const found = [];
  const grown = (name) => history.grown((of) => of.totals[name]);
  const say = (when, text) => { if (when) found.push(text); };
  const [answered, failed] = [grown('answered'), grown('failed')];
  const ratio = failed / (answered + failed);
  say(failed >= 20 && ratio > 0.05, `${percent(ratio)} of the requests in the last minute got an ERROR.`);
  const draining = isDraining(status);
  const cut = grown('connections_cut');
  say(cut, `${plural(cut, 'connection')} cut in the last minute.`);
  const refused = grown('connections_refused');
  say(refused && !draining, `${plural(refused, 'connection')} turned away in the last minute.`);
  say(grown('accept_pauses'), 'Accepting paused in the last minute: descriptors or memory have run out.');
  say(status.totals.worker_panics, `Workers have panicked ${plural(status.totals.worker_panics, 'time')} since the start.`);
  say(status.totals.unbalanced, 'A worker\'s account does not add up: this is a fault of tidegate.');
  const { open_fds: open, max_fds: most } = status.process;
  say(most !== null && open > 0.8 * most, `${percent(open / most)} of the open files that the process may have are in use.`);
  const { queued, queue } = status.pool;
  say(queued > 0.8 * queue, `The blocking pool's queue is ${percent(queued / queue)} full.`);
  status.workers.forEach((worker, index) => {
    say(history.mean((sample) => sample.workers[index].busy, 10) > 0.9, `Worker ${index} has been over 90 % busy for 10 seconds.`);
  });
  return [...found, ...lastingComplaints(history)];
}

const isDraining = ({ drain }) => drain.phase !== 'serving';

/// The answer to "is it well?".
function verdictOf(history) {
  const { status, connections, rate } = history.now;
  const notes = complaints(history);
  const load = `${plural(connections, 'connection')} on ${plural(status.workers.length, 'core')}`
    + (rate === null ? '' : `, ${perSecond(rate)} requests a second`);
  if (!status.healthy.ok) return { grade: 'bad', head: 'Not healthy', text: `${status.healthy.why}.`, notes };
  if (isDraining(status)) {
    const { phase, elapsed_ms: elapsed } = status.drain;
    return { grade: 'draining', head: `Draining: ${phase}`, text: `Begun ${phaseTime(elapsed)} ago. ${load}.`, notes };
  }
  if (!status.ready.ok) return { grade: 'doubtful', head: 'Not ready', text: `${status.ready.why}. ${load}.`, notes };
  if (notes.length) return { grade: 'doubtful', head: 'Serving, but look at this', text: `${load}.`, notes };
  return { grade: 'good', head: 'Serving', text: `${load}. Nothing wants attention.`, notes };
}

/// The account of a drain, when the server is no longer there to tell.
function lastWords(status) {
  const { ledger, connections_left: left } = status.drain;
  const text = `Last seen: ${n(ledger.accepted)} accepted = ${n(ledger.answered)} answered + ${n(ledger.failed)} failed`
    + ` + ${n(ledger.pending)} pending + ${n(ledger.cut)} cut`
    + (ledger.in_flight ? ` + ${n(ledger.in_flight)} in flight` : '') + '.';
  const notes = [];
  if (ledger.cut || ledger.connections_cut) notes.push(`${plural(ledger.cut, 'request')} and ${plural(ledger.connections_cut, 'connection')} were cut.`);
  if (left) notes.push(`${plural(left, 'connection')} were still open when it was last seen.`);
  notes.push('The whole ledger is the last line of its audit log.');
  return { grade: ledger.cut || ledger.connections_cut ? 'bad' : 'draining', head: 'The server has gone', text, notes };
}
