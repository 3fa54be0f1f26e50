//! What is written for requests, and when they are answered.

use super::*;

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
