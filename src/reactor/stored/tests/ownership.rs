//! What the store is told without being asked to, and who gets a session from it.

use super::*;

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
    assert_eq!(b.stored.take_effects().unknown, [b.waiter("alice", 1, 500)]);
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
    assert_eq!(b.stored.take_effects().unknown, [b.waiter("alice", 2, 500)], "the store did not say");
    assert_eq!((b.sessions.len(), b.stored.courier.view().queued), (0, 0));
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
