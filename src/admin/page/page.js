// The page's own life: it asks once a second, is patient while nobody answers, and begins anew with a new server.

const EVERY = 1000; // ms from one question to the next
const PATIENCE = 4000; // ms for an answer
const SLOWEST = 10_000; // ms between questions while nobody answers, or nobody looks
const TOKEN = 'tidegate-admin-token'; // in this tab's own storage, which ends with the tab

const history = new Past();
let failures = 0;
let seen = null; // when it last answered
let timer = 0;
let asking = false;

const token = () => sessionStorage.getItem(TOKEN);

class Refused extends Error {}

async function ask(target) {
  const stop = new AbortController();
  const timeout = setTimeout(() => stop.abort(), PATIENCE);
  try {
    const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
    const answer = await fetch(target, { headers, signal: stop.signal, cache: 'no-store', credentials: 'omit', redirect: 'error' });
    if (answer.ok) return await answer.json();
    const text = (await answer.text()).trim();
    throw answer.status === 401 || answer.status === 429 ? new Refused(text) : new Error(text || `status ${answer.status}`);
  } finally {
    clearTimeout(timeout);
  }
}

async function poll() {
  clearTimeout(timer);
  if (asking) return;
  asking = true;
  const begun = performance.now();
  let next = EVERY;
  let status;
  try {
    status = await ask('/status');
  } catch (error) {
    if (error instanceof Refused) return openDoor(error.message);
    next = lose(error);
  } finally {
    asking = false;
  }
  if (document.hidden) next = Math.max(next, SLOWEST / 2);
  timer = setTimeout(poll, Math.max(next - (performance.now() - begun), EVERY / 4));
  // Behind all else: what went wrong here is a fault of the page, and is to be seen as one.
  if (status) show(status);
}

function show(status) {
  const now = history.add(status);
  failures = 0;
  seen = performance.now();
  $('door').hidden = true;
  $('data').hidden = false;
  document.body.className = '';
  const verdict = verdictOf(history);
  document.title = `${verdict.head}: ${status.service_id}, ${n(now.connections)}`;
  drawHead(status);
  drawVerdict(verdict);
  drawDrain(status);
  drawTiles(history);
  drawCores(history);
  drawRequests(history);
  drawCauses(history);
  drawLasting(history);
  drawProcess(history);
  drawAge();
}

/// Nobody has answered. Returns how long to wait before asking again.
function lose(error) {
  failures += 1;
  const last = history.now?.status;
  // Once may be a chance.
  if (failures > 1 || !last) {
    document.body.className = 'stale';
    const why = error.name === 'AbortError' ? `nobody answered within ${PATIENCE / 1000} seconds` : error.message;
    const lost = { grade: 'bad', head: 'No answer', text: `The admin port does not answer: ${why}. Asking again.`, notes: [] };
    const verdict = last && isDraining(last) ? lastWords(last) : lost;
    document.title = `${verdict.head}: ${last?.service_id ?? 'tidegate'}`;
    drawVerdict(verdict);
  }
  drawAge();
  return Math.min(EVERY * 2 ** Math.min(failures - 1, 10), SLOWEST);
}

function drawAge() {
  if (seen === null) return;
  const seconds = (performance.now() - seen) / 1000;
  put($('age'), failures < 2 && seconds < 5 ? 'live' : `seen ${long(seconds)} ago`);
}

function openDoor(why) {
  const door = $('door');
  if (token()) {
    sessionStorage.removeItem(TOKEN);
    put($('door-note'), why);
    $('door-note').className = 'note bad';
  }
  $('data').hidden = true;
  door.hidden = false;
  drawVerdict({ grade: 'waiting', head: 'Who are you?', text: 'This server shows itself to whoever has its operator\'s token.', notes: [] });
  $('token').focus();
}

$('door').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $('token').value.trim());
  $('token').value = '';
  poll();
});

$('who').addEventListener('submit', async (event) => {
  event.preventDefault();
  const principal = $('principal').value.trim();
  put($('who-note'), 'Asking the workers …');
  try {
    drawList(await ask(`/connections?limit=100${principal ? `&principal=${encodeURIComponent(principal)}` : ''}`));
  } catch (error) {
    $('list').hidden = true;
    put($('who-note'), `No list: ${error.message}`);
  }
});

document.addEventListener('visibilitychange', () => {
  if (!document.hidden && $('door').hidden) poll();
});

setInterval(drawAge, 1000);
poll();
