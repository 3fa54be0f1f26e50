// What outlives the process: the journal, the routes to its sinks, the session store.

/// What an operator should look at of these, in sentences.
function lastingComplaints(history) {
  const { journal, routes, session_store: store } = history.now.status;
  const found = [];
  const say = (when, text) => { if (when) found.push(text); };
  if (journal) {
    say(journal.state === 'poisoned', `The journal's disk has failed (${journal.why}): SUBMIT is UNAVAILABLE until a restart.`);
    say(journal.state === 'full', `The journal has no room (${journal.why}): SUBMIT is OVERLOADED.`);
    say(journal.state === 'open' && journal.bytes > 0.8 * journal.capacity, `The journal is ${percent(journal.bytes / journal.capacity)} full.`);
    const forgotten = history.grown((of) => of.journal?.keys_forgotten);
    say(forgotten, `${plural(forgotten, 'idempotency key')} forgotten within their time in the last minute: raise TIDEGATE_DEDUP_MAX.`);
  }
  routes.forEach((route, index) => {
    say(route.down !== null, `The sink of ${route.pattern} is down: ${route.down}. ${plural(route.behind, 'message')} wait in the journal.`);
    const dead = history.grown((of) => of.routes[index]?.dead_letters);
    say(dead, `${plural(dead, 'message')} of ${route.pattern} became dead letters in the last minute.`);
  });
  if (store) {
    say(store.down !== null, `The session store is down: ${store.down}. State is UNAVAILABLE, new sessions are in memory alone.`);
    say(store.down === null && store.unsaved > 1000, `${plural(store.unsaved, 'session')} are in memory alone until the session store has them.`);
  }
  return found;
}

/// The quantile of what a histogram has counted between two looks.
function recent(bounds, after, before, share) {
  const between = before ? minus(after.counts, before.counts) : after.counts;
  const value = quantile(bounds, between, share);
  return value === null ? '–' : brief(value);
}

function drawLasting({ samples, now }) {
  const { journal, routes, session_store: store, latency } = now.status;
  const past = samples[Math.max(samples.length - 11, 0)];
  const before = past === now ? undefined : past?.status;
  const seconds = past && past !== now ? now.at - past.at : 0;
  const speedOf = (after, earlier) => perSecond(seconds > 0 && earlier !== undefined ? Math.max(after - earlier, 0) / seconds : null);
  const bounds = latency.bounds_s;
  $('lasting').hidden = !journal && !store;
  $('journal').hidden = !journal;
  if (journal) {
    const was = before?.journal;
    const set = (name, text, share) => fact(name, text, share, $('journal'));
    set('journal', journal.state === 'open' ? 'open' : `${journal.state}: ${journal.why}`);
    set('messages / s', speedOf(journal.stored, was?.stored));
    const batch = was && journal.sync.count > was.sync.count ? (journal.stored - was.stored) / (journal.sync.count - was.sync.count) : null;
    set('messages a sync', batch === null ? '–' : part(batch, 3));
    set('sync, p99', recent(bounds, journal.sync, was?.sync, 0.99));
    set('on the disk', `${bytes(journal.bytes)} of ${bytes(journal.capacity)}`, journal.bytes / journal.capacity);
    set('waiting for the disk', `${plural(journal.queued, 'message')}`);
    set('stored', `${n(journal.stored)}, ${plural(journal.duplicates, 'retry')}`.replace('retrys', 'retries'));
    set('refused', n(journal.refused));
    set('ids', journal.durable_id ? `${journal.first_id} to ${journal.durable_id}` : 'none yet');
    set('keys remembered', n(journal.keys));
    set('disk free', journal.disk_free === null ? '–' : bytes(journal.disk_free));
    set('found at the start', `${n(journal.recovered)} unfinished, in ${phaseTime(journal.recovery_ms)}`);
  }
  const sinks = routes.filter(({ sink }) => sink !== 'none');
  $('routes-frame').hidden = !sinks.length;
  rows($('routes'), sinks.map((route) => {
    const was = before?.routes.find(({ pattern }) => pattern === route.pattern);
    return [
      route.pattern, `${route.sink} ${route.target}`, route.down === null ? 'up' : 'down',
      speedOf(route.delivered, was?.delivered), n(route.behind), route.behind ? ago(route.lag_s) : '–',
      recent(bounds, route.latency, was?.latency, 0.99), n(route.dead_letters),
    ];
  }));
  sinks.forEach((route, at) => {
    const { cells } = $('routes').tBodies[0].rows[at];
    // Why it is down is said above.
    cells[2].className = route.down === null ? '' : 'bad';
    cells[2].title = route.down ?? '';
    cells[1].title = route.target;
  });
  $('store').hidden = !store;
  if (store) {
    const was = before?.session_store;
    const set = (name, text, share) => fact(name, text, share, $('store'));
    set('session store', `${store.kind}${store.down === null ? '' : `, down: ${store.down}`}`);
    set('writes / s', speedOf(store.written, was?.written));
    set('operation, p99', recent(bounds, store.latency, was?.latency, 0.99));
    set('waiting for the store', `${n(store.queued)} of ${n(store.queue)}`, store.queued / store.queue);
    set('resumed from it', n(store.claims));
    set('in memory alone', n(store.unsaved));
    set('failed', n(store.failures));
    set('taken by others', n(store.lost));
  }
}
