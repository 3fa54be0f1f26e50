use super::*;
use crate::reactor::pending::PendingKey;
use crate::session::store::runner::{Failed, StoreOptions};
use crate::session::store::{WriteOp, Written};
use std::time::Duration;

use crate::session::{IdKey, SECRET_LEN, SessionLimits, StateLimits};

const FAR: Duration = Duration::from_secs(3_600);
const LIMITS: SessionLimits =
    SessionLimits { sessions: 4_096, state: StateLimits { entries: 3, bytes: 20 }, ttl_s: 60 };

/// A worker's sessions, and a test in the place of the store's threads.
struct Bench {
    stored: Stored,
    sessions: Sessions,
    asks: Box<dyn Fn() -> Vec<Ask>>,
    now: Now,
    next: u64,
}

fn bench(touches: bool) -> Bench {
    let (queue, failures, retry) = (1_000, 5, Duration::from_secs(1));
    let options = StoreOptions { kind: "test", threads: 1, touches, queue, timeout: FAR, failures, retry };
    let (courier, asks) = Courier::of_a_test(options);
    let mut sessions = Sessions::new(0, IdKey::new().adopting(), LIMITS);
    sessions.keep(touches);
    let now = Now { tick: Millis(0), s: 100, wall_ms: 5_000_000 };
    Bench { stored: Stored::new(courier), sessions, asks: Box::new(asks), now, next: 0 }
}

fn owner(token: u64) -> Owner {
    Owner { worker: 0, token }
}

impl Bench {
    /// A session that the store does not know yet.
    fn create(&mut self) -> SessionKey {
        self.next += 1;
        let mut secret = [0; SECRET_LEN];
        secret[..8].copy_from_slice(&self.next.to_be_bytes());
        self.sessions.create("alice", owner(self.next), secret).unwrap()
    }

    /// One that it knows.
    fn saved(&mut self) -> SessionKey {
        let key = self.create();
        self.flush();
        self.done();
        assert!(self.sessions.is_saved(key));
        key
    }

    /// The end of a tick: the writes of each message, by their names.
    fn flush(&mut self) -> Vec<String> {
        self.stored.flush(&mut self.sessions, &self.now);
        let named = (self.asks)().into_iter().map(|ask| match ask {
            Ask::Claim { wanted, .. } => format!("claim for {}", wanted.principal),
            Ask::Write { flight, writes } => {
                let names: Vec<String> = writes.iter().map(name).collect();
                format!("{flight}: {}", names.join(", "))
            }
        });
        named.collect()
    }

    /// The ends of a tick, as one line.
    fn sent(&mut self) -> String {
        self.flush().join("; ")
    }

    fn told(&mut self, flight: u32, result: Result<Vec<Written>, Failed>) {
        self.stored.settle(&mut self.sessions, Told::Written { flight, result }, &self.now);
    }

    /// Everything that is under way is done.
    fn done(&mut self) {
        let under_way: Vec<u32> =
            self.stored.flights.iter().filter(|(_, f)| f.out.is_some()).map(|(at, _)| at as u32).collect();
        under_way.into_iter().for_each(|flight| self.told(flight, Ok(vec![Written::Done])));
    }

    /// An operation; its number if it has to wait.
    fn op(&mut self, key: SessionKey, op: StateOp) -> Result<u64, Begun> {
        match self.stored.begin(&self.sessions, key, &op.as_slices()) {
            Begun::Later => {
                self.next += 1;
                let asker = Asker { worker: 0, pending: PendingKey(self.next) };
                self.stored.wait(&self.sessions, key, op, asker);
                Ok(self.next)
            }
            begun => Err(begun),
        }
    }

    fn put(&mut self, key: SessionKey, name: &str, value: &str) -> u64 {
        self.op(key, StateOp::Put(name.as_bytes().into(), value.as_bytes().into())).unwrap()
    }

    fn get(&mut self, key: SessionKey, name: &str) -> Result<u64, Begun> {
        self.op(key, StateOp::Get(name.as_bytes().into()))
    }

    /// Requests that have been answered since the last call.
    fn answers(&mut self) -> Vec<(u64, String)> {
        let answers = self.stored.take_effects().answers.into_iter();
        let answers = answers.map(|(asker, outcome)| {
            let answer = match outcome {
                Outcome::Reply { payload, .. } => String::from_utf8(payload).unwrap(),
                Outcome::Error(failure) => format!("{:?}", failure.code),
                other => panic!("{other:?}"),
            };
            (asker.pending.0, answer)
        });
        answers.collect()
    }

    fn value(&self, key: SessionKey, name: &str) -> Option<&str> {
        self.sessions.get(key, name.as_bytes()).map(|value| std::str::from_utf8(value).unwrap())
    }

    fn waiter(&self, principal: &str, token: u64, until: u32) -> Waiter {
        Waiter { principal: principal.into(), from: owner(token), pending: PendingKey(token), until: Millis(until) }
    }
}

fn name(write: &Write) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let op = match &write.op {
        WriteOp::Open { ends_ms, state, .. } => {
            let pairs: Vec<String> = state.iter().map(|(k, v)| format!("{}={}", text(k), text(v))).collect();
            let ends = if *ends_ms == WITH_ITS_OWNER { "".to_owned() } else { format!(" until {ends_ms}") };
            format!("open[{}]{ends}", pairs.join(" "))
        }
        WriteOp::Put(name, value) => format!("put {}={}", text(name), text(value)),
        WriteOp::Delete(name) => format!("delete {}", text(name)),
        WriteOp::Touch { ends_ms } => format!("touch {ends_ms}"),
        WriteOp::End => "end".to_owned(),
    };
    if write.fence == 1 { op } else { format!("{op} (fence {})", write.fence) }
}

fn ok(n: u64, value: &str) -> (u64, String) {
    (n, value.to_owned())
}

fn unavailable(n: u64) -> (u64, String) {
    (n, "Unavailable".to_owned())
}

#[test]
fn a_put_is_answered_and_seen_only_after_its_commit_and_those_of_one_tick_go_together() {
    let mut b = bench(false);
    let key = b.saved();
    let (one, two) = (b.put(key, "a", "1"), b.put(key, "b", "2"));
    let got = b.get(key, "a").unwrap();
    assert_eq!(b.get(key, "c"), Err(Begun::Now), "no write of it waits");
    let three = b.put(key, "a", "3");
    assert_eq!(b.sent(), "0: put a=1, put b=2, put a=3");
    let later = b.put(key, "a", "4");
    let got_later = b.get(key, "a").unwrap();
    assert_eq!((b.sent().as_str(), b.value(key, "a")), ("", None), "one message at a time");
    assert_eq!(b.answers(), []);
    b.told(0, Ok(vec![Written::Done; 3]));
    assert_eq!(b.answers(), [ok(one, ""), ok(two, ""), ok(got, "1"), ok(three, "")]);
    assert_eq!(b.value(key, "a"), Some("3"));
    assert_eq!(b.sent(), "0: put a=4");
    b.told(0, Ok(vec![Written::Done]));
    assert_eq!(b.answers(), [ok(later, ""), ok(got_later, "4")]);
    assert_eq!((b.stored.flights.len(), b.stored.courier.view().queued), (0, 0));
}

#[test]
fn what_is_under_way_counts_for_the_limits() {
    let mut b = bench(false);
    let key = b.saved();
    for name in ["a", "b", "c"] {
        b.put(key, name, "1");
    }
    let full = |b: &mut Bench, name: &str, value: &str| match b
        .op(key, StateOp::Put(name.as_bytes().into(), value.as_bytes().into()))
    {
        Err(Begun::Refused(failure)) => failure.code == ErrorCode::BadRequest,
        other => panic!("{other:?}"),
    };
    assert!(full(&mut b, "d", "1"), "a fourth key");
    assert!(full(&mut b, "a", "12345678901234567"), "too many bytes");
    b.op(key, StateOp::Delete(b"b".as_slice().into())).unwrap();
    b.put(key, "d", "12345678901");
    assert!(full(&mut b, "d", "1234567890123456"));
    b.flush();
    b.told(0, Ok(vec![Written::Done; 5]));
    assert_eq!((b.value(key, "b"), b.value(key, "d")), (None, Some("12345678901")));
    b.answers();
    assert!(full(&mut b, "e", "1"));
}

#[test]
fn a_failed_commit_is_unavailable_and_what_may_have_been_done_is_put_right_later() {
    let mut b = bench(false);
    let key = b.saved();
    b.put(key, "a", "old");
    b.flush();
    b.done();
    b.answers();
    let (a, c) = (b.put(key, "a", "new"), b.put(key, "c", "1"));
    let got = b.get(key, "a").unwrap();
    b.flush();
    b.told(0, Err(Failed { tried: true }));
    assert_eq!(b.answers(), [unavailable(a), unavailable(c), ok(got, "old")]);
    assert_eq!((b.value(key, "a"), b.value(key, "c")), (Some("old"), None));
    assert_eq!(b.sent(), "", "not before the store has rested");
    b.now.tick = Millis(1_000);
    assert_eq!(b.sent(), "0: put a=old, delete c");
    b.done();
    assert_eq!((b.stored.flights.len(), b.sent()), (0, String::new()));
    // What was not tried needs no such thing.
    let d = b.put(key, "a", "newer");
    b.flush();
    b.told(0, Err(Failed { tried: false }));
    b.now.tick = Millis(2_000);
    assert_eq!((b.answers(), b.sent(), b.stored.flights.len()), (vec![unavailable(d)], String::new(), 0));
}

#[test]
fn what_there_is_no_room_for_after_a_failure_is_refused() {
    let mut b = bench(false);
    let key = b.saved();
    b.put(key, "a", "1234567890123456789");
    b.flush();
    b.done();
    b.answers();
    let gone = b.op(key, StateOp::Delete(b"a".as_slice().into())).unwrap();
    b.flush();
    let (in_its_place, seen, small) = (b.put(key, "b", "123456789"), b.get(key, "b").unwrap(), b.put(key, "a", "1"));
    b.told(0, Err(Failed { tried: false }));
    let refused = (in_its_place, "BadRequest".to_owned());
    assert_eq!(b.answers(), [unavailable(gone), refused, (seen, "NotFound".to_owned())]);
    assert_eq!(b.sent(), "0: put a=1");
    b.done();
    assert_eq!(b.answers(), [ok(small, "")]);
}

#[test]
fn a_session_that_the_store_has_lost_is_opened_again_with_all_that_it_holds() {
    let mut b = bench(false);
    let key = b.saved();
    b.put(key, "a", "1");
    b.flush();
    b.done();
    b.answers();
    let put = b.put(key, "b", "2");
    b.flush();
    let later = b.put(key, "c", "3");
    b.told(0, Ok(vec![Written::Gone]));
    assert_eq!((b.answers(), b.sessions.unsaved()), (vec![], 1));
    assert_eq!(b.sent(), "0: open[a=1 b=2 c=3]");
    b.told(0, Ok(vec![Written::Done]));
    assert_eq!((b.answers(), b.sessions.unsaved()), (vec![ok(put, ""), ok(later, "")], 0));
    assert_eq!(b.value(key, "b"), Some("2"));
}

#[test]
fn a_session_that_another_gateway_has_taken_over_is_let_go_with_its_connection() {
    let mut b = bench(false);
    let key = b.saved();
    let put = b.put(key, "a", "1");
    b.flush();
    let later = b.get(key, "a").unwrap();
    b.told(0, Ok(vec![Written::Lost]));
    let effects = b.stored.take_effects();
    assert_eq!(effects.evicted, [owner(1)]);
    b.stored.effects = Effects { evicted: Vec::new(), ..effects };
    assert_eq!(b.answers(), [unavailable(put), unavailable(later)]);
    assert_eq!((b.sessions.len(), b.stored.flights.len(), b.sent()), (0, 0, String::new()), "no end of it");
    let view = b.stored.courier.view();
    assert_eq!((view.lost, view.queued, view.unsaved), (1, 0, 0));
}

#[test]
fn new_sessions_are_saved_some_at_a_time_and_stay_unsaved_while_the_store_is_down() {
    let mut b = bench(false);
    let keys: Vec<SessionKey> = (0..MAX_STORE_SAVING + 100).map(|_| b.create()).collect();
    assert_eq!(b.flush().len(), MAX_STORE_SAVING);
    assert_eq!(b.stored.courier.view().unsaved, keys.len() as u64);
    assert_eq!(b.stored.next(&b.sessions, b.now.tick), None, "whatever comes back wakes it");
    for flight in 0..MAX_STORE_SAVING as u32 {
        b.told(flight, Err(Failed { tried: false }));
    }
    assert_eq!((b.sent(), b.stored.next(&b.sessions, b.now.tick)), (String::new(), Some(Millis(1_000))));
    b.sessions.end(keys[0], owner(1));
    b.sent();
    assert!(b.stored.ends.all.is_empty(), "the store never knew it: it has no end there");
    b.now.tick = Millis(1_000);
    let mut sent = 0;
    loop {
        let messages = b.flush();
        assert!(messages.iter().all(|message| message.contains("open[]")), "{messages:?}");
        if messages.is_empty() {
            break;
        }
        sent += messages.len();
        b.done();
    }
    assert_eq!((sent, b.sessions.unsaved()), (keys.len() - 1, 0));
    assert!(b.stored.is_idle(&b.sessions) && b.stored.flights.is_empty());
}

#[test]
fn a_put_behind_auth_goes_with_the_opening_or_right_behind_it() {
    let mut b = bench(false);
    let key = b.create();
    let put = b.put(key, "a", "1");
    assert_eq!(b.sent(), "0: open[a=1]", "one commit for both");
    let second = b.put(key, "a", "2");
    assert_eq!(b.sent(), "");
    b.done();
    assert_eq!(b.answers(), [ok(put, "")]);
    assert_eq!(b.sent(), "0: put a=2");
    b.done();
    assert_eq!(b.answers(), [ok(second, "")]);
    // An opening that failed takes nothing for granted.
    let key = b.create();
    let put = b.put(key, "a", "1");
    b.flush();
    b.told(0, Err(Failed { tried: true }));
    assert_eq!((b.answers(), b.value(key, "a")), (vec![unavailable(put)], None));
    b.now.tick = Millis(1_000);
    assert_eq!(b.sent(), "0: open[]");
}

#[test]
fn what_was_asked_before_bye_is_answered_before_the_session_ends() {
    let mut b = bench(false);
    let key = b.saved();
    let first = b.put(key, "a", "1");
    assert!(!b.stored.end_later(SessionKey(77), owner(1)), "of others nothing waits");
    b.sent();
    let second = b.put(key, "b", "2");
    let third = b.get(key, "b").unwrap();
    assert!(b.stored.end_later(key, owner(1)));
    b.done();
    assert_eq!((b.answers(), b.sent().as_str()), (vec![ok(first, "")], "0: put b=2"));
    assert!(b.sessions.owner(key).is_some());
    b.done();
    assert_eq!(b.answers(), [ok(second, ""), ok(third, "2")]);
    assert!(b.sessions.owner(key).is_none(), "now it has ended");
    assert_eq!(b.sent(), "0: end");
    b.done();
    assert!(b.stored.is_idle(&b.sessions) && b.stored.by_session.is_empty());
    assert!(!b.stored.end_later(key, owner(1)));
}

#[test]
fn an_end_is_told_behind_what_is_under_way_and_until_it_is_done_the_session_can_not_be_resumed() {
    let mut b = bench(false);
    let key = b.saved();
    let id = b.sessions.id(key);
    let put = b.put(key, "a", "1");
    b.flush();
    let unsent = b.put(key, "b", "2");
    b.sessions.end(key, owner(1));
    assert_eq!(b.sent(), "");
    assert_eq!(b.answers(), [unavailable(unsent)]);
    let waiter = b.waiter("alice", 9, 1_000);
    assert!(!b.stored.ask(&id, waiter.clone()));
    b.done();
    assert_eq!(b.answers(), [ok(put, "")], "it was committed");
    assert_eq!(b.sent(), "0: end");
    b.told(0, Err(Failed { tried: true }));
    assert!(!b.stored.ask(&id, waiter.clone()) && !b.stored.is_idle(&b.sessions));
    b.now.tick = Millis(1_000);
    assert_eq!(b.sent(), "0: end");
    b.done();
    assert!(b.stored.is_idle(&b.sessions));
    assert!(b.stored.ask(&id, waiter), "the store knows by itself now");
}

#[test]
fn a_claimed_session_is_here_with_its_id_its_state_and_its_fence() {
    let mut b = bench(true);
    let id = [7; 16];
    assert!(b.stored.ask(&id, b.waiter("alice", 1, 500)));
    assert!(b.stored.ask(&id, b.waiter("alice", 2, 600)), "whoever comes meanwhile waits, too");
    assert!(b.stored.ask(&id, b.waiter("bob", 3, 700)));
    assert_eq!(b.sent(), "claim for alice");
    b.now.tick = Millis(500);
    b.stored.expire(&b.sessions, &b.now);
    assert_eq!(b.stored.take_effects().claimed, [(b.waiter("alice", 1, 500), None)]);
    let pair = |name: &str, value: &str| (name.as_bytes().into(), value.as_bytes().into());
    let stored = crate::session::store::Stored { fence: 5, state: vec![pair("a", "1")] };
    b.stored.settle(&mut b.sessions, Told::Claimed { id, result: Ok(Some(stored)) }, &b.now);
    let claimed = b.stored.take_effects().claimed;
    assert_eq!(claimed, [(b.waiter("alice", 2, 600), Some(id)), (b.waiter("bob", 3, 700), Some(id))]);
    let key = b.sessions.find(&id).unwrap();
    assert_eq!((b.sessions.id(key), b.value(key, "a"), b.sessions.unsaved()), (id, Some("1"), 0));
    assert!(matches!(b.sessions.claim(&id, "bob", owner(3), 100), crate::session::Claim::Unknown));
    assert!(matches!(b.sessions.claim(&id, "alice", owner(2), 100), crate::session::Claim::Granted { .. }));
    b.put(key, "a", "2");
    assert_eq!(b.sent(), "0: put a=2 (fence 5), touch 5060000 (fence 5)");
    b.done();
    b.sessions.end(key, owner(2));
    assert_eq!((b.sent().as_str(), b.sessions.find(&id)), ("0: end (fence 5)", None));
}

#[test]
fn a_claim_that_finds_nothing_is_asked_again_for_whoever_else_waits() {
    let mut b = bench(false);
    let id = [7; 16];
    assert!(b.stored.ask(&id, b.waiter("mallory", 1, 500)) && b.stored.ask(&id, b.waiter("alice", 2, 500)));
    b.flush();
    b.stored.settle(&mut b.sessions, Told::Claimed { id, result: Ok(None) }, &b.now);
    assert_eq!(b.stored.take_effects().claimed, [(b.waiter("mallory", 1, 500), None)]);
    assert_eq!(b.sent(), "claim for alice");
    let result = Err(Failed { tried: true });
    b.stored.settle(&mut b.sessions, Told::Claimed { id, result }, &b.now);
    assert_eq!(b.stored.take_effects().claimed, [(b.waiter("alice", 2, 500), None)]);
    assert_eq!((b.sessions.len(), b.stored.courier.view().queued), (0, 0));
}

#[test]
fn only_so_many_operations_wait() {
    let mut b = bench(false);
    let key = b.saved();
    for _ in 0..1_000 {
        b.put(key, "a", "1");
    }
    let Err(Begun::Refused(failure)) = b.op(key, StateOp::Delete(b"a".as_slice().into())) else { panic!() };
    assert_eq!((failure.code, failure.retry_after_ms), (ErrorCode::Unavailable, 1_000));
    assert!(!b.stored.ask(&[7; 16], b.waiter("alice", 1, 500)), "and that AUTH gets a new session");
    b.flush();
    b.done();
    assert!(b.op(key, StateOp::Delete(b"a".as_slice().into())).is_ok());
}

#[test]
fn sessions_in_use_are_touched_in_a_third_of_their_time_and_no_others() {
    let mut b = bench(true);
    let keys: Vec<SessionKey> = (0..100).map(|_| b.create()).collect();
    assert!(b.flush().iter().all(|message| message.contains("open[] until 5060000")));
    b.done();
    // Without a connection: when it ends is told once.
    b.sessions.release(keys[0], owner(1), 90);
    assert!(b.sent().ends_with(": touch 5050000"));
    b.done();
    let mut touched = 0;
    for step in 1..=21 {
        (b.now.tick, b.now.wall_ms) = (Millis(step * 1_000), 5_000_000 + u64::from(step) * 1_000);
        let messages = b.flush();
        assert!(messages.len() <= 6, "a few in each step: {messages:?}");
        touched += messages.len();
        b.done();
    }
    assert!((99..=105).contains(&touched), "{touched}");
    // Only one: it is touched once in that time, and nothing wakes the worker in between.
    let mut one = bench(true);
    one.saved();
    one.flush();
    assert_eq!(one.stored.next(&one.sessions, one.now.tick), Some(Millis(20_000)));
    one.now.tick = Millis(19_999);
    assert_eq!(one.sent(), "");
    one.now.tick = Millis(20_000);
    assert!(one.sent().contains("touch"));
    let mut unused = bench(false);
    unused.saved();
    unused.now.tick = Millis(30_000);
    assert_eq!((unused.sent(), unused.stored.next(&unused.sessions, unused.now.tick)), (String::new(), None));
}

#[test]
fn a_session_that_comes_and_goes_while_a_message_is_under_way_is_told_again() {
    let mut b = bench(true);
    let key = b.saved();
    b.put(key, "a", "1");
    b.flush();
    b.sessions.release(key, owner(1), 100);
    assert_eq!(b.sent(), "");
    b.done();
    assert_eq!(b.sent(), "0: touch 5060000");
}

#[test]
fn a_session_that_is_here_is_resumed_once_the_store_has_said_that_it_is_ours_still() {
    let mut b = bench(true);
    let key = b.saved();
    let id = b.sessions.id(key);
    let claimed = |b: &mut Bench| b.stored.take_effects().claimed;
    let (one, two, three) = (b.waiter("alice", 1, 500), b.waiter("alice", 2, 500), b.waiter("alice", 3, 900));
    b.stored.verify(&mut b.sessions, key, one.clone());
    assert_eq!((b.sent().as_str(), claimed(&mut b)), ("0: touch 5060000", vec![]));
    b.stored.verify(&mut b.sessions, key, two.clone());
    b.done();
    assert_eq!(claimed(&mut b), [(one.clone(), Some(id))], "the other came after it was sent");
    assert_eq!(b.sent(), "0: touch 5060000");
    // A silent store, or one that is down, keeps nobody from what is here.
    b.stored.verify(&mut b.sessions, key, three.clone());
    b.now.tick = Millis(500);
    b.stored.expire(&b.sessions, &b.now);
    assert_eq!(claimed(&mut b), [(two, Some(id))]);
    b.told(0, Err(Failed { tried: true }));
    assert_eq!(claimed(&mut b), [], "that was not for the third");
    b.sent();
    b.told(0, Err(Failed { tried: false }));
    assert_eq!(claimed(&mut b), [(three.clone(), Some(id))]);
    // One who has gone does not wait any more; one whose session is another gateway's asks for it.
    b.stored.verify(&mut b.sessions, key, one.clone());
    b.stored.verify(&mut b.sessions, key, three.clone());
    b.sent();
    b.stored.give_up(&b.sessions, &id, one.from);
    b.told(0, Ok(vec![Written::Lost]));
    assert_eq!((claimed(&mut b), b.sessions.len()), (vec![], 0));
    assert_eq!(b.sent(), "claim for alice");
    b.stored.settle(&mut b.sessions, Told::Claimed { id, result: Ok(None) }, &b.now);
    assert_eq!(claimed(&mut b), [(three, None)]);
}
